# What failed in the output of go test, without the rest of it: the lines that say so, what was said
# below them, and the stacks of the tests that hung.
function end() {
	if (stack ~ /testing\.tRunner\(/ && stack !~ /testing\.\(\*T\)\.Run\(/) print stack
	stack = ""
}
BEGIN { print "\nWhat failed:" }
/^goroutine / { end(); stack = "\n" $0; lines = 0; next }
/^$|^FAIL/ { end() }
/^(FAIL|panic:|fatal error:|SIG|WARNING: DATA RACE)/ { print; after = 3; next }
/^ *--- FAIL/ { print; after = 12; next }
stack != "" { if (++lines < 40) stack = stack "\n" $0; next }
/^(ok|---|===|\?)/ { after = 0 }
after > 0 { after--; print }
