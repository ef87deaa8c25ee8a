// Package tied starts the servers of tests: processes that end with the one that started them,
// however that ends. Only tests import it.
package tied

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// start starts a command on the thread of this package. Pdeathsig fires when the thread that
// started a process ends, not when its process does: so that thread lives as long as the process.
var start = sync.OnceValue(func() func(*exec.Cmd) error {
	commands, started := make(chan *exec.Cmd), make(chan error)
	go func() {
		runtime.LockOSThread()
		for c := range commands {
			started <- c.Start()
		}
	}()
	var mu sync.Mutex
	return func(c *exec.Cmd) error {
		mu.Lock()
		defer mu.Unlock()
		commands <- c
		return <-started
	}
})

// Start starts c, which the kernel kills with SIGKILL when this process has ended.
func Start(c *exec.Cmd) error {
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return start()(c)
}
