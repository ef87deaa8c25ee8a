package main

import "regexp"

// statement is what may differ from stock, with what it is about the test. The expressions must
// match the whole.
type statement struct {
	suite, file, what string // what: a case, or a problem
	reason            string
}

// exceptions are what may differ where databases are files.
var exceptions = []statement{
	{`.*`, `oserror|misc7`, `\(Unfreed memory\)|.*oserror-1\.1\.3|level=ERROR .*(Too many open ` +
		`files|are left for another).*`,
		"it uses up the descriptors of the process, which the library needs, too: " +
			"it opens the database without replication, says so, and keeps " +
			"what it said for verneuil_status(); which open fails first then is counted"},
	{`.*`, `misc7`, `verneuilctl flush: .*: look at journal: read .*-journal: is a directory`,
		"it leaves a directory in the place of a journal, with which SQLite itself does not open " +
			"the database"},
	{`.*`, `dbstatus`, `.*dbstatus-4\..*|\(errors\)`,
		"it expects the memory of a page cache to the byte, and " +
			"" +
			"that includes the VFS's file object"},
	{`.*`, `fts5bigtok`, `.*fts5bigtok-.*`,
		"it names cases by random words"},
	{`.*`, `corruptH|corruptI|incrcorrupt`, `level=ERROR msg="validation failed" .*: mirror ` +
		`(differs from|has \d+ bytes,) the database .*`,
		"it writes bytes into the database's file, or cuts it, past SQLite, " +
			"whose header stays as it was, and goes on with SQLite"},
	{`.*`, `wal`, `level=ERROR msg="validation failed" .*: the WAL is damaged: its last commit ` +
		`gives the database 163840 bytes, .*`,
		"its cases 18.2 make a WAL of one frame whose commit claims five pages of 32 KiB, " +
			"beside a file of 3 KiB: SQLite's own checkpoint refuses it"},
	{`.*`, `pager1`, `level=ERROR msg="validation failed" .*: mirror differs from the database ` +
		`at offset 136195"`,
		"its cases 18.3 and 18.4 write the first bytes of page 134 (pages have 1,024) into the " +
			"database's file, past SQLite"},
	{`.*`, `rdonly`, `level=ERROR msg="validation failed" .*: mirror differs from the database ` +
		`at offset 18"`,
		"it writes byte 18 of the header, the write version, past SQLite, " +
			"and leaves the change counter"},
	{`.*`, `walcrash4`,
		`.*walcrash4-1\.nExtra=.*|level=ERROR msg="no commit could be validated" .*`,
		"its crash VFS, above ours, keeps back writes that SQLite takes for done, " +
			"so that the one commit of each of its processes " +
			"cannot be validated; what they print about that is part of the comparison"},
	{`.*`, `walcrash`, `level=ERROR msg="no commit could be validated" .*|level=ERROR ` +
		`msg="validation failed" .*differs from the database at offset (4100|91528|9160[01])"`,
		"its crash VFS keeps back writes, as that of walcrash4, and of the frame that fills up " +
			"the last sector of a commit what SQLite writes " +
			"after the sync (wal.c, walWriteToLog): blocks of 512 bytes; " +
			"and testfixture's random numbers are the same in each process, so that a " +
			"WAL has the salts of the one before it, which is all that tells them apart"},
	{`.*`, `corruptA`, `verneuilctl flush: .*file is not a database`,
		"it overwrites the header and leaves a file that SQLite itself refuses"},
	{`all-wal|all-walex`, `multiplex2`, `level=ERROR msg="validation failed" .*differs from the ` +
		`database at offset 1048576"`,
		"its VFS cuts the database into files of 1,048,576 bytes, but not the WAL: " +
			"its frames are of one, ours has the first part"},
	{`.*`, `multiplex2`, `level=ERROR msg="validation failed" .*(differs from the database|` +
		`corrupt: frame's magic).*|` +
		`verneuilctl flush: .*database disk image is malformed`,
		"its VFS cuts a database into files and locks only the first, " +
			"so that the others are databases that are written without any lock"},
}

// exception returns the reason why what may be so, or nothing.
func exception(i item, what string) string {
	list := exceptions
	if i.remote {
		list = remoteExceptions
	}
	for _, e := range list {
		if matches(e.suite, i.suite) && matches(`(`+e.file+`)(\.test)?`, i.file) &&
			matches(e.what, what) {
			return e.reason
		}
	}
	return ""
}

func matches(pattern, name string) bool {
	return regexp.MustCompile(`^(?s:` + pattern + `)$`).MatchString(name)
}
