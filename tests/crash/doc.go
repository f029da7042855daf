// Package crash holds the crash matrix: its tests kill candor's programs at each
// system call that changes something. See README.md.
package crash
