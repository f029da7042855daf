package policy

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"candor.dev/candor/request"
)

// settings is what one file says, before any of it is checked. A nil pointer is
// a setting that the file leaves alone.
type settings struct {
	StateDir     *string                 `toml:"state_dir"`
	BinDir       *string                 `toml:"bin_dir"`
	Pools        map[string]poolSettings `toml:"pools"`
	ResourceView struct {
		Enabled  *bool `toml:"enabled"`
		Required *bool `toml:"required"`
		Pressure *bool `toml:"pressure"`
	} `toml:"resource_view"`
	Egress struct {
		MaxLimit *string `toml:"max_limit"`
		Uplink   *string `toml:"uplink"`
		Capacity *string `toml:"capacity"`
	} `toml:"egress"`
	Metrics struct {
		Listen *string `toml:"listen"`
	} `toml:"metrics"`
}

type poolSettings struct {
	Kind     string          `toml:"kind"`
	MACs     []string        `toml:"macs"`
	Names    []string        `toml:"names"`
	PCI      []string        `toml:"pci"`
	Drivers  []string        `toml:"drivers"`
	PFs      []string        `toml:"pfs"`
	Subnets  []string        `toml:"subnets"`
	Gateways []string        `toml:"gateways"`
	Routes   []routeSettings `toml:"routes"`
	MTU      *int64          `toml:"mtu"`
	Permit   []string        `toml:"permit"`
	Wait     *string         `toml:"wait"`
	Allow    []string        `toml:"allow"`

	NumVFs    *int64   `toml:"numvfs"`
	VLAN      *int64   `toml:"vlan"`
	VLANs     []string `toml:"vlans"`
	MinTxRate string   `toml:"min_tx_rate"`
	MaxTxRate string   `toml:"max_tx_rate"`
}

type routeSettings struct {
	Dst    string `toml:"dst"`
	GW     string `toml:"gw"`
	Metric *int   `toml:"metric"`
	Table  *int   `toml:"table"`
}

// keysIn returns the keys that may stand in a table, with what each has to be.
func keysIn(table []string) map[string]string {
	const text, list, boolean, number = "a string", "a list of strings", "true or false", "a whole number"
	switch {
	case len(table) == 0:
		return map[string]string{
			"state_dir": text, "bin_dir": text, "pools": "a table of pools",
			"resource_view": "a table", "egress": "a table", "metrics": "a table",
		}
	case table[0] == "resource_view" && len(table) == 1:
		return map[string]string{"enabled": boolean, "required": boolean, "pressure": boolean}
	case table[0] == "egress" && len(table) == 1:
		return map[string]string{"max_limit": text, "uplink": text, "capacity": text}
	case table[0] == "metrics" && len(table) == 1:
		return map[string]string{"listen": text}
	case table[0] == "pools" && len(table) == 2:
		return map[string]string{
			"kind": text, "macs": list, "names": list, "pci": list, "drivers": list, "pfs": list,
			"subnets": list, "gateways": list, "routes": "a list of {dst, gw, metric, table}", "mtu": number, "allow": list,
			"wait":   `a duration such as "10s"`,
			"permit": list, "numvfs": number, "vlan": number, "vlans": list, "min_tx_rate": text, "max_tx_rate": text,
		}
	case table[0] == "pools" && len(table) == 3 && table[2] == "routes":
		return map[string]string{"dst": text, "gw": text, "metric": number, "table": number}
	}
	return nil
}

// decode reads the text of one file. Its errors name the file and the line.
func decode(path string, data []byte) (settings, error) {
	var s settings
	err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&s)
	if err == nil {
		return s, checkCase(path, data)
	}
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		e := unknown.Errors[0]
		return s, unknownKey(at(path, &e), e.Key())
	}
	var bad *toml.DecodeError
	if !errors.As(err, &bad) {
		return s, fmt.Errorf("config %s: %w", path, err)
	}
	// What is good TOML and no good policy has the wrong type. The library's
	// own text for that speaks of Go's types.
	key := bad.Key()
	var any map[string]any
	if len(key) > 0 && toml.Unmarshal(data, &any) == nil {
		if want := keysIn(key[:len(key)-1])[key[len(key)-1]]; want != "" {
			return s, fmt.Errorf("%s: %s must be %s", at(path, bad), plain(strings.Join(key, ".")), want)
		}
		return s, fmt.Errorf("%s: %s has a value of the wrong type", at(path, bad), plain(strings.Join(key, ".")))
	}
	return s, fmt.Errorf("%s: %s", at(path, bad), strings.TrimPrefix(bad.Error(), "toml: "))
}

func at(path string, e *toml.DecodeError) string {
	line, column := e.Position()
	return fmt.Sprintf("config %s:%d:%d", path, line, column)
}

func unknownKey(at string, key toml.Key) error {
	table, name := key[:len(key)-1], key[len(key)-1]
	var known []string
	for k := range keysIn(table) {
		known = append(known, k)
	}
	// The key of an inline table in a list is named without the list.
	if len(table) == 2 && table[0] == "pools" {
		known = append(known, "dst", "gw", "metric", "table")
	}
	near := request.Nearest(name, known)
	if near != "" {
		near = fmt.Sprintf("; did you mean %q?", near)
	}
	return fmt.Errorf("%s: unknown key %q%s", at, strings.Join(key, "."), near)
}

// checkCase refuses keys in another case than they are documented in. The
// library takes them for the same key, so that of "allow" and "Allow" in one
// pool, which are two keys to TOML, one would silently win.
func checkCase(path string, data []byte) error {
	var top map[string]any
	if err := toml.Unmarshal(data, &top); err != nil {
		return fmt.Errorf("config %s: %w", path, err)
	}
	var walk func(table []string, members map[string]any) error
	walk = func(table []string, members map[string]any) error {
		known := keysIn(table)
		for name, value := range members {
			key := append(append([]string{}, table...), name)
			isPool := len(key) == 2 && key[0] == "pools"
			if _, ok := known[name]; !ok && !isPool {
				return unknownKey("config "+path, key)
			}
			switch v := value.(type) {
			case map[string]any:
				if err := walk(key, v); err != nil {
					return err
				}
			case []any:
				for _, element := range v {
					if m, ok := element.(map[string]any); ok {
						if err := walk(key, m); err != nil {
							return err
						}
					}
				}
			}
		}
		return nil
	}
	return walk(nil, top)
}
