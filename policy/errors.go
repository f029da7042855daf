package policy

// DeniedError says that the policy does not grant what was asked for.
type DeniedError struct {
	Err error
}

func (e *DeniedError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *DeniedError) Unwrap() error { return e.Err }

// BrokenError says that the policy's files cannot be used, so that they grant
// nothing.
type BrokenError struct {
	Err error
}

func (e *BrokenError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *BrokenError) Unwrap() error { return e.Err }
