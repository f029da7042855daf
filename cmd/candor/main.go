// Command candor shows and mends what containers hold of the node.
package main

import "os"

func main() { os.Exit(run(os.Args, os.Stdout, os.Stderr)) }
