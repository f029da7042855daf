package resview_test

import (
	"fmt"
	"io/fs"
	"strings"

	"candor.dev/candor/ledger"
	"candor.dev/candor/resview"
	"candor.dev/candor/resview/render"
)

// platform is a platform's own list of its containers, in the place of candor's
// ledger.
type platform map[string]ledger.View

func (p platform) Read(key string) (*ledger.Record, error) {
	view, runs := p[key]
	if !runs {
		return nil, fmt.Errorf("container %q: %w", key, fs.ErrNotExist)
	}
	return &ledger.Record{Key: key, View: &view}, nil
}

func (p platform) List() (records []*ledger.Record, err error) {
	for key, view := range p {
		records = append(records, &ledger.Record{Key: key, View: &view})
	}
	return records, nil
}

// A platform serves the view of a container of its own. Here the machine is a
// recorded one and the kernel's side of the connection a few lines of test, so that
// the example runs without a mount; the comments say what a node has in their place.
func Example() {
	host, err := render.NewHost("render/testdata/v2") // "/"
	if err != nil {
		fmt.Println(err)
		return
	}
	fd, kernel, err := connection() // resview.OpenMount("/run/platform")
	if err != nil {
		fmt.Println(err)
		return
	}
	slots, err := resview.NewSlots()
	if err != nil {
		fmt.Println(err)
		return
	}
	containers := platform{"web-1": { // cgroup.Of(pid)
		ID:      1,
		Cgroups: map[string]string{"": "/kubepods.slice/pod1.slice/cri-1.scope"},
	}}
	server := resview.NewServer(resview.Config{
		FD:         fd,
		Slots:      slots,
		Generation: 1,
		Store:      containers,
		Open: func(view ledger.View) (resview.Container, error) {
			return render.Open(view, host)
		},
	})
	go func() { fmt.Println(server.Serve()) }() // go host.Run(ctx, nil), for the load

	// resview.Bind("/run/platform", "web-1", init, "/", resview.Files()), and the
	// container reads /proc/meminfo.
	for _, file := range []string{"meminfo", "loadavg", "cpu/online"} {
		content, err := kernel.read("web-1/" + file)
		if err != nil {
			fmt.Println(err)
			return
		}
		line, _, _ := strings.Cut(content, "\n")
		fmt.Println(line)
	}
	// Output:
	// MemTotal:        1048576 kB
	// 2.00 2.00 2.00 2/4 44
	// 2-4
}
