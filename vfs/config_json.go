package vfs

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// encoding/json cannot say which key is wrong, lets a second value for a key
// win silently, and matches keys whatever their case. So the configuration is
// parsed into a tree that keeps the members of objects in order, and read from
// that by tables of typed readers, each of which knows its place in the tree.

// A JSON value is nil, bool, string, json.Number, object or array.
type (
	object []member
	member struct {
		key   string
		value any
	}
	array []any
)

// reader stores a JSON value in its destination. at is the key's path.
type reader func(at string, value any) error

// fields maps the keys of an object to their readers.
type fields map[string]reader

func (o object) keys() string {
	names := make([]string, len(o))
	for i, m := range o {
		names[i] = m.key
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// join extends a key's path.
func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

func parseJSON(text string) (any, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("not UTF-8")
	}
	// First check that the text is complete and well-formed, and say where it is not. After that,
	// the token stream below has no errors.
	var raw json.RawMessage
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			line, column := position(text, syntax.Offset)
			return nil, fmt.Errorf("line %d, column %d: %w", line, column, err)
		}
		return nil, err
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	return parseValue(decoder, "")
}

// position turns the count of bytes that were read before an error into a line
// and a column, both from 1.
func position(text string, offset int64) (line, column int) {
	before := text[:max(0, min(int(offset), len(text))-1)]
	line = 1 + strings.Count(before, "\n")
	column = 1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
	return line, column
}

// parseValue reads one value. The recursion is bounded: json.Unmarshal has
// refused texts that nest deeper than 10,000.
func parseValue(decoder *json.Decoder, at string) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		members := object{}
		for decoder.More() {
			token, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			key, at := token.(string), join(at, token.(string))
			if slices.ContainsFunc(members, func(m member) bool { return m.key == key }) {
				return nil, fmt.Errorf("%s: given twice", at)
			}
			value, err := parseValue(decoder, at)
			if err != nil {
				return nil, err
			}
			members = append(members, member{key, value})
		}
		_, err := decoder.Token()
		return members, err
	case json.Delim('['):
		values := array{}
		for decoder.More() {
			value, err := parseValue(decoder, fmt.Sprintf("%s[%d]", at, len(values)))
			if err != nil {
				return nil, err
			}
			values = append(values, value)
		}
		_, err := decoder.Token()
		return values, err
	}
	return token, nil
}

// readObject reads each member of value with its reader. A null counts as an object without
// members.
func readObject(at string, value any, readers fields) error {
	members, ok := value.(object)
	if !ok && value != nil {
		return wrongType(at, value, "an object")
	}
	for _, m := range members {
		read, ok := readers[m.key]
		if !ok {
			known := make([]string, 0, len(readers))
			for key := range readers {
				known = append(known, key)
			}
			slices.Sort(known)
			return fmt.Errorf("%s: unknown key; known here: %s", join(at, m.key),
				strings.Join(known, ", "))
		}
		if err := read(join(at, m.key), m.value); err != nil {
			return err
		}
	}
	return nil
}

func list(read reader) reader {
	return func(at string, value any) error {
		values, ok := value.(array)
		if !ok && value != nil {
			return wrongType(at, value, "an array")
		}
		for i, v := range values {
			if err := read(fmt.Sprintf("%s[%d]", at, i), v); err != nil {
				return err
			}
		}
		return nil
	}
}

// The scalar readers take null as "not given": the default stays.

func text(dst *string) reader {
	return func(at string, value any) error {
		switch v := value.(type) {
		case nil:
			return nil
		case string:
			*dst = v
			return nil
		}
		return wrongType(at, value, "a string")
	}
}

func boolean(dst *bool) reader {
	return func(at string, value any) error {
		switch v := value.(type) {
		case nil:
			return nil
		case bool:
			*dst = v
			return nil
		}
		return wrongType(at, value, "true or false")
	}
}

func integer[T int | int64](dst *T, low, high int64) reader {
	return func(at string, value any) error {
		if value == nil {
			return nil
		}
		number, ok := value.(json.Number)
		if !ok {
			return wrongType(at, value, "a whole number")
		}
		n, err := strconv.ParseInt(number.String(), 10, 64)
		if errors.Is(err, strconv.ErrSyntax) {
			return fmt.Errorf("%s: %s, want a whole number", at, number)
		}
		if err != nil || n < low || n > high {
			return fmt.Errorf("%s: %s, want %s", at, number, between(low, high))
		}
		*dst = T(n)
		return nil
	}
}

// milliseconds reads a whole number of milliseconds; low is one, and high is not.
func milliseconds(dst *time.Duration, low int64, high time.Duration) reader {
	return func(at string, value any) error {
		n := dst.Milliseconds()
		err := integer(&n, low, high.Milliseconds())(at, value)
		*dst = time.Duration(n) * time.Millisecond
		return err
	}
}

func between(low, high int64) string {
	if high == math.MaxInt64 {
		return fmt.Sprintf("at least %d", low)
	}
	return fmt.Sprintf("%d to %d", low, high)
}

func positive(dst *float64, high float64) reader {
	return func(at string, value any) error {
		if value == nil {
			return nil
		}
		number, ok := value.(json.Number)
		if !ok {
			return wrongType(at, value, "a number")
		}
		f, err := number.Float64()
		if err != nil || f <= 0 || f > high {
			return fmt.Errorf("%s: %s, want more than 0 and at most %g", at, number, high)
		}
		*dst = f
		return nil
	}
}

func wrongType(at string, value any, want string) error {
	kind := "null"
	switch value.(type) {
	case bool:
		kind = "a boolean"
	case string:
		kind = "a string"
	case json.Number:
		kind = "a number"
	case object:
		kind = "an object"
	case array:
		kind = "an array"
	}
	if at == "" {
		return fmt.Errorf("is %s, want %s", kind, want)
	}
	return fmt.Errorf("%s: is %s, want %s", at, kind, want)
}
