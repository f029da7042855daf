package ledger

import "fmt"

// Difference is one thing of the kernel's that is not as a record says.
type Difference struct {
	// Object is what is looked at, such as "nic 52:54:00:00:00:01 (ens5)".
	Object string `json:"object"`
	// Expected and Actual go on from "expected" and from "is".
	Expected string `json:"expected"`
	Actual   string `json:"actual"`
}

// String says it in one line.
func (d Difference) String() string {
	return fmt.Sprintf("%s: expected %s, is %s", d.Object, d.Expected, d.Actual)
}
