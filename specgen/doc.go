// Package specgen turns the OCI spec that an engine wrote into the one that
// candor's runtime gets: hooks where the annotations or the node's policy ask
// for them, and a time namespace for an honest uptime. Nothing else.
//
// It is pure: bytes in, bytes out. It patches the raw JSON: what it does not
// touch stays as it was, byte for byte, so that numbers stay exact and keys
// that a newer engine writes survive (a typed decode drops them, and refusing
// them breaks with every new engine: nvidia-container-toolkit#1491). With
// nothing to do the very same bytes come back, and patching twice equals
// patching once.
package specgen
