package restore

// LockTemp locks a restore's temporary file.
var LockTemp = lockTemp

// Unlocked is for tests.
var Unlocked = unlocked
