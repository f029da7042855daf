package prepare

import (
	"context"

	"candor.dev/candor/policy"
	"candor.dev/candor/request"
	"candor.dev/candor/shim/bundle"
	"candor.dev/candor/specgen"
)

// Preview is what [Container.Run] would do.
type Preview struct {
	// Before and After are the spec as it is and as it would be.
	Before, After []byte
	Changes       specgen.Changes
	// Refused is why the container would not be created; nil when it would.
	Refused error
}

// Preview says what [Container.Run] would do, and touches nothing.
func (c Container) Preview(ctx context.Context) (Preview, error) {
	config, err := bundle.Read(c.Bundle)
	if err != nil {
		return Preview{}, err
	}
	spec, err := specgen.Parse(config.Spec)
	if err != nil {
		return Preview{}, err
	}
	req, err := request.Parse(spec.Annotations)
	if err != nil {
		return Preview{}, err
	}
	p, err := policy.Load(c.ConfigPath)
	if err != nil {
		return Preview{}, err
	}
	caller := c.Caller(spec.Annotations)
	options, err := c.options(ctx, p, caller, req)
	if err != nil {
		return Preview{}, err
	}
	patched, changes, err := spec.Patch(options)
	if err != nil {
		return Preview{}, err
	}
	return Preview{Before: config.Spec, After: patched, Changes: changes, Refused: grant(p, caller, spec, req)}, nil
}
