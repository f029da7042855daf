package request

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
)

// metricIPv6 is what the kernel makes of an IPv6 route without a metric
// (IP6_RT_PRIO_USER).
const metricIPv6 = 1024

// Collides reports whether the kernel would take the other route for the same one
// and refuse it.
func (r Route) Collides(other Route) bool {
	return r.Dst == other.Dst && r.Table == other.Table && r.metric() == other.metric()
}

func (r Route) metric() int {
	if r.Metric == 0 && r.Dst.Addr().Is6() {
		return metricIPv6
	}
	return r.Metric
}

// route reads the object of a route.
func (w *walker) route() (Route, *Error) {
	// CNI calls the metric "priority".
	known := []string{"dst", "gw", "metric", "priority", "table"}
	var r Route
	err := w.object(`an object such as {"dst":"10.1.0.0/16","gw":"10.0.0.1"}`, func(name string) *Error {
		if !slices.Contains(known, name) {
			return unknownField(name, known)
		}
		if err := w.routeField(&r, name); err != nil {
			return err.in(name)
		}
		return nil
	})
	if err == nil {
		err = checkRoute(r)
	}
	return r, err
}

// routeField reads the value of a route's field.
func (w *walker) routeField(r *Route, name string) (err *Error) {
	tok := w.next()
	if name == "dst" || name == "gw" {
		s, ok := tok.(string)
		if !ok {
			return wrongType(tok, "a string")
		}
		if name == "dst" {
			r.Dst, err = parseDestination(s)
		} else {
			r.GW, err = parseAddr(s)
		}
		return err
	}
	number, ok := tok.(json.Number)
	if !ok {
		return wrongType(tok, "a number")
	}
	v, err := parseNumber(number.String())
	switch {
	case err != nil:
		return err
	case name == "table":
		r.Table = v
		return checkTable(v)
	case r.Metric != 0:
		return &Error{Rule: `is given twice: "metric" and "priority" are the same`}
	}
	r.Metric = v
	return checkMetric(v)
}

// ParseRoute reads a route. gw may be empty: the destination is then reached on
// the wire. metric and table are nil where none is given. The error is of type
// [*Error].
func ParseRoute(dst, gw string, metric, table *int) (Route, error) {
	var r Route
	var err *Error
	if r.Dst, err = parseDestination(dst); err != nil {
		return Route{}, err.in("dst")
	}
	if gw != "" {
		if r.GW, err = parseAddr(gw); err != nil {
			return Route{}, err.in("gw")
		}
	}
	if metric != nil {
		r.Metric = *metric
		if err := checkMetric(r.Metric); err != nil {
			return Route{}, err.in("metric")
		}
	}
	if table != nil {
		r.Table = *table
		if err := checkTable(r.Table); err != nil {
			return Route{}, err.in("table")
		}
	}
	if err := checkRoute(r); err != nil {
		return Route{}, err
	}
	return r, nil
}

// checkMetric refuses 0: to IPv4 it is the best metric, to IPv6 none at all.
func checkMetric(v int) *Error { return between(v, 1, math.MaxInt32) }

// checkTable takes the routing tables that nobody else has: not the kernel's, and
// not those from 10000 on, which candor makes for the NICs' source addresses.
func checkTable(v int) *Error {
	err := between(v, 1, 9999)
	switch {
	case v == 254:
		return &Error{Value: "254", Rule: `is the main table, where a route without "table" goes`}
	case v == 253 || v == 255:
		return &Error{Value: strconv.Itoa(v), Rule: "is a table of the kernel's own: tables are 1 to 252 and 256 to 9999"}
	case err != nil:
		err.Rule = "must be 1 to 252 or 256 to 9999"
	}
	return err
}

func checkRoute(r Route) *Error {
	switch {
	case !r.Dst.IsValid():
		return &Error{Field: "dst", Rule: "is missing"}
	case r.Dst.Bits() == 0 && r.Table == 0:
		// Which route wins in the main table is for the gateway's rules to say.
		return &Error{
			Field: "dst", Value: r.Dst.String(),
			Rule: `is every address: use "gateway", with "default-route" if it is to win, or give the route a "table" of its own`,
		}
	case r.GW.IsValid() && r.GW.Is4() != r.Dst.Addr().Is4():
		return &Error{Field: "gw", Value: r.GW.String(), Rule: "is not of the family of " + r.Dst.String()}
	}
	return nil
}
