package keyring

// FailedInterval is for how long a command that has failed is not run again.
const FailedInterval = failedInterval
