package replicate

// LockTemp locks a restore's temporary file.
var LockTemp = lockTemp
