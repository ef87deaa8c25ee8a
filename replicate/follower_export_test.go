package replicate

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
