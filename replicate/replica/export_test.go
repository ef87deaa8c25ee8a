package replica

import "time"

// BeginRefresh is Refresh in two steps, for tests that stand between them.
func (r *Reader) BeginRefresh(force bool) (end func() error) {
	fl := r.f.request(force)
	return func() error {
		<-fl.done
		if fl.err == nil {
			r.Adopt()
		}
		return fl.err
	}
}

// Check says that the source was asked at that time for the version that r is at.
func (r *Reader) Check(at time.Time) { r.s.checked.Store(at.UnixNano()) }
