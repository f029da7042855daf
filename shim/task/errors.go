package task

import (
	"errors"

	"candor.dev/candor/journal"
	"candor.dev/candor/shim/prepare"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// toStatus gives an error the code and the form in which containerd passes it on
// to the user: one line.
func toStatus(err error) error {
	code := codes.Internal
	var e *prepare.Error
	if errors.As(err, &e) {
		switch e.Kind {
		case prepare.Invalid:
			code = codes.InvalidArgument
		case prepare.Precondition:
			code = codes.FailedPrecondition
		case prepare.Denied:
			code = codes.PermissionDenied
		}
	}
	return status.Error(code, "candor: "+journal.OneLine(err))
}
