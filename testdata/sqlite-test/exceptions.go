package main

import "regexp"

// exceptions are what may differ from stock, each with what it is about the test. The
// expressions must match the whole.
var exceptions = []struct {
	suite, file, what string // what: a case, or a problem
	reason            string
}{
	{`.*`, `oserror`, `\(Unfreed memory\)|.*oserror-1\.1\.3|level=ERROR .*Too many open files.*`,
		"it uses up the descriptors of the process, which the library needs, too: it opens the database without replication and says so; " +
			"which open fails first then is counted"},
	{`.*`, `dbstatus`, `.*dbstatus-4\..*|\(errors\)`,
		"it expects the memory of a page cache to the byte, and that includes the VFS's file object"},
	{`.*`, `fts5bigtok`, `.*fts5bigtok-.*`,
		"it names cases by random words"},
	{`.*`, `corruptH|corruptI|incrcorrupt|pager1|rdonly`, `level=ERROR msg="validation failed" .*: mirror (differs from|has \d+ bytes,) the database .*`,
		"it writes bytes into the database's file, or cuts it, past SQLite, whose header stays as it was, and goes on with SQLite"},
	{`.*`, `walcrash4`, `.*walcrash4-1\.nExtra=.*|level=ERROR msg="no commit could be validated" .*`,
		"its crash VFS, above ours, keeps back writes that SQLite takes for done, so that the one commit of each of its processes " +
			"cannot be validated; what they print about that is part of the comparison"},
	{`mptest`, `config01\.test:.*`, `\(did not end\)`,
		"its script is all within --if vfsname() GLOB 'unix', which has no end: for another VFS it is no script"},
	{`.*`, `corruptA`, `verneuilctl flush: .*file is not a database`,
		"it overwrites the header and leaves a file that SQLite itself refuses"},
	{`.*`, `multiplex2`, `level=ERROR msg="validation failed" .*(differs from the database|corrupt: frame's magic).*|` +
		`verneuilctl flush: .*database disk image is malformed`,
		"its VFS cuts a database into files and locks only the first, so that the others are databases that are written without any lock"},
}

// exception returns the reason why what may be so, or nothing.
func exception(i item, what string) string {
	for _, e := range exceptions {
		if matches(e.suite, i.suite) && matches(`(`+e.file+`)(\.test)?`, i.file) && matches(e.what, what) {
			return e.reason
		}
	}
	return ""
}

func matches(pattern, name string) bool {
	return regexp.MustCompile(`^(?s:` + pattern + `)$`).MatchString(name)
}
