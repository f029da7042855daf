// Command candor shows and mends what containers hold of the node.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := app().Run(os.Args); err != nil {
		fmt.Fprintf(os.Stderr, "candor: %v\n", err)
		os.Exit(1)
	}
}
