package s3

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/http"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// sum is by what checksums of transport a Put's body goes. Their headers are signed, so that the
// body needs no signature, which would be another hash here, and in the store.
type sum struct {
	md5 bool // Content-MD5, which all stores check: a tenth of what a pack costs
	crc bool // CRC32C, which costs nothing, where the store is known to check it
}

// sums is what is known of a store's checksums.
type sums struct {
	checksCRC  atomic.Bool // its last answer to one gave it back
	ignoresCRC atomic.Bool // an answer did not, or refused it: not sent any more
}

// next returns the checksums of the next Put.
func (s *sums) next() sum {
	switch {
	case s.ignoresCRC.Load():
		return sum{md5: true}
	case s.checksCRC.Load():
		return sum{crc: true}
	}
	return sum{md5: true, crc: true}
}

// leaveOutCRC notes that the store has refused, or ignored, a CRC32C.
func (b *bucket) leaveOutCRC(why string) {
	if !b.client.sums.ignoresCRC.Swap(true) {
		b.client.options.Log.Info("store does not check a CRC32C: bodies go with Content-MD5",
			"bucket", b.String(), "it_was", why)
	}
}

// refusesSum: an answer that a Put may get because of a header that the store does not know.
func refusesSum(err error) bool {
	var e *answerError
	return errors.As(err, &e) && e.kind == nil &&
		(e.status == http.StatusBadRequest || e.status == http.StatusNotImplemented)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// addTo gives in the checksums of body.
func (s sum) addTo(in *s3.PutObjectInput, body []byte) {
	if s.md5 {
		hash := md5.Sum(body)
		in.ContentMD5 = aws.String(base64.StdEncoding.EncodeToString(hash[:]))
	}
	if s.crc {
		hash := binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, castagnoli))
		in.ChecksumCRC32C = aws.String(base64.StdEncoding.EncodeToString(hash))
	}
}
