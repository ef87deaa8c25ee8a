// Package s3 is the provider of targets in S3 and in stores that speak its protocol. It imports
// package chunkstore, whose contracts it keeps, and the AWS SDK, which only test support imports
// besides.
//
// # Places
//
// Where things lie, as the configuration names bucket and prefix (which a slash ends):
//
//	chunk_bucket and manifest_bucket   chunks: <prefix><pack>, manifests: <prefix><key>
//	bucket, or the two are one         <prefix>chunks/<pack> and <prefix>manifests/<key>
//
// No key of ours has a slash in it. So List asks for keys without one after the prefix, and several
// targets may share a bucket, whatever their prefixes. Of one configuration no two may be one
// place.
//
// The stores speak S3: MinIO and versitygw, with and without versioning, pass the same tests, which
// are there for others, too. Nothing is read or sent before the first use; then the AWS SDK's
// default chain gives the credentials.
//
// # Requests
//
// Signed are the host, the body's length, and the headers x-amz-*, content-*, if-* and range: what
// S3 wants, and nothing that proxies rewrite (Accept-Encoding). What one of them compresses is
// unpacked. A Put carries a checksum in a signed header, so that its body is not signed: CRC32C,
// which costs nothing, and until the store has given one back, and always where it does not,
// Content-MD5, too, which takes a tenth of what it takes to make a pack. A Put has If-Match or
// If-None-Match for a [chunkstore.Condition]. A touch is a copy of the object onto
// itself; where that is refused, a Put of what a Get returned.
//
// What a store refuses is left out or put in, remembered for the life of the process, and logged
// once:
//
//	501 to a conditional Put          Puts are unconditional, if one is taken so
//	400 or 501 to a Put with a        the same Put with Content-MD5 alone; so are all then, if
//	CRC32C                            this one is not refused alike
//	400, 403 or 501 to a Put whose    the same Put with a signed body; if that one is refused
//	body is not signed                alike, not again for a minute. sign_payload: from the start
//	400, 405 or 501 to a copy onto    objects are read and put again to touch them; at a 403, too,
//	itself                            but that is not remembered
//	the credentials (see below)       they are read again, at most every 5 seconds; if they are
//	                                  others, the request is sent once more. Files and roles may
//	                                  change so
//
// Refused credentials are InvalidAccessKeyId, ExpiredToken, SignatureDoesNotMatch and their like,
// 401, and 400 or 403 to a HEAD, whose answer has no code.
//
// A request is tried 4 times if the connection breaks, also within a body, and at 408, 429, 500,
// 502, 503, 504 and SlowDown. Each attempt has to begin to be answered in half of the time that all
// have together. What gives the credentials has as much time. A request is also tried again if the
// answer is 200 and has no ETag: it is a page of something that stands between us and the store,
// and nothing was stored or found. Of an answer that is no object 4 MiB are read, of an error 64
// KiB. A conflict after a retry is none if the object is ours.
//
// A missing bucket is [chunkstore.ErrNoBucket], unless create_buckets_on_demand is set: then
// it is an empty one, and Put makes it. Without the right to list a bucket, AWS
// answers 403 for absent objects, too: they are [chunkstore.ErrDenied], not ErrAbsent.
//
// # Beliefs
//
// What is concluded, the witness that it is drawn from, what defeats the witness, and what happens
// then.
//
//	an object was stored
//	         an answer of 200 to the Put, with an ETag. A portal or balancer that answers 200 with
//	         a page defeats it: without an ETag it is no answer, and the Put is tried again
//	the body that was stored is ours
//	         the store has checked a checksum of it: that it checks CRC32C shows in that it gives
//	         it back; Content-MD5 all do. A store that gives it back unchecked defeats it: then a
//	         Get finds out, by the ID
//	there is no such object
//	         S3's code to a GET, or a 404 to a HEAD in a bucket that has been seen. A missing
//	         bucket (which is asked for), a page of 404 without a code, and a 403 where listing is
//	         not allowed are no absence; nor is a 404 to a copy: TouchPack reads the pack then
//	what a list shows is all there is
//	         an answer that names the bucket, and goes on to its end. A page, or a 404 from
//	         something that is no bucket, is an error, not an empty list
//	a key in a list is of this target, and of its kind
//	         it begins with the target's prefix for that kind, and has no slash after it. Another
//	         configuration that keeps its chunks there defeats it: of one configuration that is
//	         refused ([chunkstore.ValidateEntries]), else verify calls them damaged manifests
//	a conflict is not with ourselves
//	         the first attempt was answered. After a lost answer the object is read: ours is no
//	         conflict
//	an ETag in a condition is what the store compares
//	         its own answer. Ceph's radosgw 16 defeats it, which gives ETags in quotes and
//	         compares them without: it refuses If-Match, and shows the very ETag. Then the bare
//	         form is tried, and remembered if another bare ETag is refused
//	the store takes conditions, unsigned bodies, and copies onto itself
//	         it has not refused one: see the table above. It may be the policy of an hour: what
//	         was left out is left out until the process ends, what was put in does no harm
//	the credentials are good
//	         none was refused. Rotation and expiry defeat it: they are read again. If they are the
//	         same, the request fails, and the next one that is refused reads them again, after 5
//	         seconds
//	a touched object is young
//	         by the store's own clock the copy's time is that of its answer. A store that keeps
//	         the time (versitygw) defeats it: the object is read and put
package s3
