package chunkstore

import "time"

// WithS3Backoff is o with another time between the attempts of a request.
func (o Options) WithS3Backoff(d time.Duration) Options {
	o.s3Backoff = d
	return o
}
