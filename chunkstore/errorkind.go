package chunkstore

import "errors"

// ErrorKind returns what the same failure says each time: the store's code, or what lies at the
// bottom of err, without the key, the request's number and the attempts. err must not be nil.
func ErrorKind(err error) string {
	var coded interface{ ErrorCode() string }
	if errors.As(err, &coded) && coded.ErrorCode() != "" {
		return coded.ErrorCode()
	}
	for {
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			if e.Unwrap() == nil {
				return err.Error()
			}
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			if len(e.Unwrap()) == 0 {
				return err.Error()
			}
			err = e.Unwrap()[len(e.Unwrap())-1]
		default:
			return err.Error()
		}
	}
}

// IsFault reports whether err says that an object is absent or damaged, which is an answer: to ask
// the same store again brings nothing else.
func IsFault(err error) bool { return errors.Is(err, ErrAbsent) || errors.Is(err, ErrCorrupt) }
