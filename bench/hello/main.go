// Command hello is the least that a Go program can be: what the start of
// candor's hooks is measured against.
package main

import "os"

func main() {
	if _, err := os.Stdout.WriteString("hello\n"); err != nil {
		os.Exit(1)
	}
}
