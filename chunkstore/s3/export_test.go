package s3

import "time"

// Backoff makes d the time between the attempts of a request.
func (c *Config) Backoff(d time.Duration) { c.backoff = d }
