package remote_test

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// lists is how many of the keys are lists: see test/hosts/registers.c.
const lists = 2

// nothing is what the rows are in the beginning.
const nothing = ";;;;;;"

// change is one row that a transaction writes: a list gets value at its end.
type change struct {
	key   int
	value string
}

// operation is a transaction that a client has asked for.
type operation struct {
	client      int
	call, ended int64    // by the clock of all processes, in ns; ended is 0 until it was answered
	changes     []change // none: it only reads
	verdict     string   // ok, failed or unknown; empty: there was no answer
	rest        string   // of the answer: what was there, or the message
}

func (o *operation) String() string {
	return fmt.Sprintf("client %d: %d to %d: %v: %s %s", o.client, o.call, o.ended, o.changes,
		o.verdict, o.rest)
}

// parse reads what a client has said, line by line. What it was about to say when it died counts
// for nothing: a line is written by one call.
func parse(client int, lines []string) (all []*operation, err error) {
	for _, line := range lines {
		words := strings.SplitN(line, " ", 3)
		if len(words) < 2 {
			return nil, fmt.Errorf("client %d says %q", client, line)
		}
		at, err := strconv.ParseInt(words[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("client %d says %q", client, line)
		}
		rest := strings.Join(words[2:], "")
		if words[0] != "ask" {
			if len(all) == 0 {
				return nil, fmt.Errorf("client %d answers nobody: %q", client, line)
			}
			o := all[len(all)-1]
			o.ended, o.verdict, o.rest = at, words[0], rest
			continue
		}
		o := &operation{client: client, call: at}
		for pair := range slices.Chunk(strings.Fields(rest)[1:], 2) {
			key, err := strconv.Atoi(pair[0])
			if err != nil || len(pair) != 2 {
				return nil, fmt.Errorf("client %d says %q", client, line)
			}
			o.changes = append(o.changes, change{key, pair[1]})
		}
		all = append(all, o)
	}
	return all, nil
}

// apply makes the state after the changes: values, each with a semicolon after it.
func apply(state string, changes []change) string {
	values := strings.SplitAfter(state, ";")
	for _, c := range changes {
		if c.key < lists {
			values[c.key] = strings.TrimSuffix(values[c.key], ";") + c.value + ",;"
		} else {
			values[c.key] = c.value + ";"
		}
	}
	return strings.Join(values, "")
}

// model is one copy of the database, on which one transaction runs at a time.
var model = porcupine.Model{
	Init: func() any { return nothing },
	Step: func(state, input, _ any) (bool, any) {
		o, s := input.(*operation), state.(string)
		if o.verdict == "ok" && o.rest != s {
			return false, s
		}
		return true, apply(s, o.changes)
	},
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(input, _ any) string {
		return input.(*operation).String()
	},
}

// checkTime bounds the search for an order.
const checkTime = 5 * time.Minute

// check fails if no order of the transactions explains what was answered. What failed has not
// happened. What has no answer, or an unknown outcome, may have happened at any time after it was
// asked for, or not. A transaction that only reads sees all that was answered when it began, but
// not all that another one has read already (R10 of replicate/remote): so it may stand before its
// beginning, up to the last answer before that.
func check(all []*operation) error {
	var answers []int64
	for _, o := range all {
		if o.verdict == "ok" && len(o.changes) > 0 {
			answers = append(answers, o.ended)
		}
	}
	slices.Sort(answers)
	var history []porcupine.Operation
	for _, o := range all {
		p := porcupine.Operation{ClientId: o.client, Input: o, Call: o.call, Return: o.ended}
		reads := len(o.changes) == 0
		switch {
		case o.verdict == "failed", reads && o.verdict != "ok":
			continue
		case reads:
			n, _ := slices.BinarySearch(answers, o.call)
			p.Call = 0
			if n > 0 {
				p.Call = answers[n-1] + 1
			}
		case o.verdict != "ok":
			p.Return = math.MaxInt64
		}
		history = append(history, p)
	}
	if got := porcupine.CheckOperationsTimeout(model, history, checkTime); got != porcupine.Ok {
		return fmt.Errorf("no order explains the answers (%v)", got)
	}
	return forward(all)
}

// forward fails if a client has read a list that does not begin with what it has read of it before.
func forward(all []*operation) error {
	seen := make(map[int]*operation)
	for _, o := range all { // by client, in their order
		if o.verdict != "ok" {
			continue
		}
		if before := seen[o.client]; before != nil {
			was, is := strings.Split(before.rest, ";"), strings.Split(o.rest, ";")
			for key := range lists {
				if !strings.HasPrefix(is[key], was[key]) {
					return fmt.Errorf("a client has gone back:\n%v\n%v", before, o)
				}
			}
		}
		seen[o.client] = o
	}
	return nil
}

// TestCheck: it finds what must not be.
func TestCheck(t *testing.T) {
	const w, r = "write 0 a.1 2 a.1", "read"
	after := apply(nothing, []change{{0, "a.1"}, {2, "a.1"}})
	for _, c := range []struct {
		name   string
		first  []string
		second []string
		want   bool
	}{
		{"seen", []string{"ask 1 " + w, "ok 2 " + nothing}, []string{"ask 3 " + r, "ok 4 " + after},
			true},
		{"lost", []string{"ask 1 " + w, "ok 2 " + nothing}, []string{"ask 3 " + r,
			"ok 4 " + nothing}, false},
		{"torn", []string{"ask 1 " + w, "ok 5 " + nothing}, []string{"ask 3 " + r,
			"ok 4 a.1,;;;;;;"}, false},
		{"not answered yet, seen by one and not by the next", []string{"ask 1 " + w,
			"ok 9 " + nothing}, []string{"ask 3 " + r, "ok 4 " + after}, true},
		{"failed, and seen", []string{"ask 1 " + w, "failed 2 no"}, []string{"ask 3 " + r,
			"ok 4 " + after}, false},
		{"unknown, and seen", []string{"ask 1 " + w, "unknown 2 ?"}, []string{"ask 3 " + r,
			"ok 4 " + after}, true},
		{"unknown, and not seen", []string{"ask 1 " + w, "unknown 2 ?"}, []string{"ask 3 " + r,
			"ok 4 " + nothing}, true},
		{"dead, and seen", []string{"ask 1 " + w}, []string{"ask 3 " + r, "ok 4 " + after}, true},
		{"written on what was there before", []string{"ask 1 " + w, "ok 2 " + nothing},
			[]string{"ask 3 write 0 b.1 3 b.1", "ok 4 " + nothing}, false},
		{"back", []string{"ask 1 " + w, "unknown 2 ?"}, []string{"ask 3 " + r, "ok 4 " + after,
			"ask 5 " + r, "ok 6 " + nothing}, false},
	} {
		a, err := parse(0, c.first)
		b, err2 := parse(1, c.second)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if err := check(append(a, b...)); (err == nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
