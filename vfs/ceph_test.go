package vfs

import "testing"

// TestPoolOf: what libcephsqlite takes for a pool needs no configuration. A name of a store in the
// configuration is never one.
func TestPoolOf(t *testing.T) {
	var r Remote
	for name, want := range map[string]string{
		"p:": "p ", "p:n": "p n", "*2:": "*2 ", "*2:n": "*2 n", "a.b-c_D9:e.f": "a.b-c_D9 e.f",
		"": "", "p": "", ":n": "", ":": "", "*:n": "", "*a:n": "", "p:n:m": "", "p n:m": "",
		"p:n m": "", "2*:n": "",
	} {
		got := ""
		if c := poolOf(name); c != nil {
			got = c.Pool + " " + c.Namespace
		}
		if got != want || r.Has(name) != (want != "") {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
		if want != "" && checkStoreName(name) == nil {
			t.Errorf("%q may be the name of a store", name)
		}
	}
	if names := r.Names(); len(names) != 0 {
		t.Errorf("the configuration has %v", names)
	}
}
