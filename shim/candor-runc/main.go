// Command candor-runc is runc with candor's hooks in the containers that it
// creates.
package main

import (
	"os"

	"candor.dev/candor/shim/wrapper"
)

func main() {
	os.Exit(wrapper.Wrapper{Args: os.Args[1:], Environ: os.Environ(), Stderr: os.Stderr}.Main())
}
