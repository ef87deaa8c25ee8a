package history

import "fmt"

// beside runs f, and returns what waits for it. A panic is an error: the goroutine is ours, in
// hosts of others.
func beside(f func() error) (wait func() error) {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
		}()
		err = f()
	}()
	return func() error {
		<-done
		return err
	}
}
