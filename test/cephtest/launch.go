package cephtest

// Launch is [Start] for programs that are no tests. The caller calls End.
func Launch(o Options) (*Cluster, error) {
	p, err := Find()
	if err != nil {
		return nil, err
	}
	return start(p, o)
}

// End ends the cluster, and removes what it has written.
func (c *Cluster) End() { c.stop() }

// NamedLibrary is [Programs.Library] for programs that are no tests; empty: there is none.
func (p *Programs) NamedLibrary(name string) string { return p.library(name) }

// Output is [Cluster.Run] for programs that are no tests.
func (c *Cluster) Output(args ...string) (string, error) { return c.run(args...) }
