package main

import "path"

// exceptions are what may differ from stock, each with what it is about the test.
var exceptions = []struct {
	suite, file, what string // path.Match patterns; what: a case, or a problem
	reason            string
}{}

// exception returns the reason why what may be so, or nothing.
func exception(i item, what string) string {
	for _, e := range exceptions {
		if matches(e.suite, i.suite) && matches(e.file, i.file) && matches(e.what, what) {
			return e.reason
		}
	}
	return ""
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}
