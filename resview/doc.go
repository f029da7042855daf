// Package resview serves the resource view: one FUSE tree per node with one
// directory per container, whose files show the container's own limits and
// usage in the place of the machine's.
//
// The worker that serves may be killed at any moment. Each request is read
// straight into a slot of memory that the supervisor shares with it ([Slots]),
// and the next worker answers again what still lies there. So every reply here
// is a function of the request and of the [Store] alone: node ids derive from
// the record and from the path (package layout), file handles carry nothing that
// is needed.
//
// This package does not know what the files contain: [Container] is the seam.
// Package render fills it from the container's cgroup.
//
// # Without the rest of candor
//
// A platform that starts its containers itself needs four things; the example
// shows the first two.
//
//   - A [Store] of its own, which says of each container where its cgroup is. It
//     takes nothing of candor's ledger but the type of a record.
//   - A [Server] on a connection to the kernel, with package render behind it.
//   - The connection: statedir.Prepare, then [OpenMount] with the same directory.
//     Descriptor and [Slots] are to be held by a process that does not die with
//     the server, and handed to each worker with the next generation; where the
//     server may die with its readers, one process does for both.
//   - [Bind], once the container's init is there and has its /proc and /sys: before
//     it executes the container's program, as a hook of createRuntime. After the
//     loss of a mount, [Rebind].
package resview
