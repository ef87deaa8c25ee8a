package spool

// FormatVersion is that of a spool's state. What lies in a spool outlives a program, so that
// another may come to read it.
const FormatVersion = stateVersion
