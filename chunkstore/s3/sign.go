package s3

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// signer signs what S3 wants signed, and nothing that may change on the way: the SDK would sign
// Accept-Encoding, too, which Google's and Cloudflare's front ends and nginx rewrite, and headers
// of its own.
type signer struct{ sdk *v4.Signer }

func newSigner() s3.HTTPSignerV4 {
	asS3Wants := func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }
	return signer{v4.NewSigner(asS3Wants)}
}

func (s signer) SignHTTP(ctx context.Context, credentials aws.Credentials, r *http.Request,
	payloadHash, service, region string, at time.Time, options ...func(*v4.SignerOptions)) error {
	all := r.Header
	r.Header = make(http.Header, len(all)+3)
	for name, values := range all {
		if mustSign(name) {
			r.Header[name] = values
		}
	}
	err := s.sdk.SignHTTP(ctx, credentials, r, payloadHash, service, region, at, options...)
	for name, values := range all {
		if !mustSign(name) {
			r.Header[name] = values
		}
	}
	return err
}

// mustSign: host and the length of the body are signed besides.
func mustSign(header string) bool {
	name := strings.ToLower(header)
	for _, prefix := range []string{"x-amz-", "content-", "if-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return name == "range"
}

// refusesCredentials: the store does not know who asks, or not any more, or not by this secret. The
// answer to a HEAD has no code that could tell. e may be nil.
func (e *answerError) refusesCredentials(head bool) bool {
	if e == nil {
		return false
	}
	switch e.code {
	case "InvalidAccessKeyId", "ExpiredToken", "ExpiredTokenException", "InvalidToken",
		"TokenRefreshRequired", "SignatureDoesNotMatch", "InvalidClientTokenId",
		"UnrecognizedClientException", "InvalidSecurity", "Unauthorized":
		return true
	}
	switch e.status {
	case http.StatusForbidden, http.StatusBadRequest:
		return head
	}
	return e.status == http.StatusUnauthorized
}

// renewPauses is how many pauses between attempts pass before credentials are read once more.
const renewPauses = 25

// renew reads the credentials again, as the store refuses those of used, and makes a session of
// them. It returns nil if they are the same, or cannot be read, or were read just now.
func (c *client) renew(ctx context.Context, used *session) *session {
	done, err := c.takeTurn(ctx)
	if err != nil {
		return nil
	}
	defer done()
	if session := c.current.Load(); session != used {
		return session // somebody has been here
	}
	if pause := renewPauses * c.config.backoff; time.Since(c.renewed) < pause {
		return nil
	}
	c.renewed = time.Now()
	fresh, err := c.openInTime(ctx)
	if err != nil {
		c.options.Log.Debug("read credentials again", "error", err)
		return nil
	}
	had, err := used.credentials.Retrieve(ctx)
	has, freshErr := fresh.credentials.Retrieve(ctx)
	same := had.AccessKeyID == has.AccessKeyID && had.SecretAccessKey == has.SecretAccessKey &&
		had.SessionToken == has.SessionToken
	if freshErr != nil || err == nil && same {
		return nil
	}
	c.current.Store(fresh)
	return fresh
}

// refusesUnsigned: an answer that a Put may get because its body is not signed, from a bucket's
// policy or a store that knows no UNSIGNED-PAYLOAD.
func refusesUnsigned(err error) bool {
	var e *answerError
	if !errors.As(err, &e) || e.kind != nil {
		return false
	}
	switch e.code {
	case "AccessDenied", "SignatureDoesNotMatch", "XAmzContentSHA256Mismatch", "InvalidRequest",
		"InvalidArgument", "NotImplemented":
		return true
	}
	return e.status == http.StatusNotImplemented ||
		e.status == http.StatusForbidden && !e.refusesCredentials(false)
}

// signedAgain is how long it is believed that a signature of the body changes nothing.
const signedAgain = time.Minute

// mayTrySigned: a Put that was refused may be tried with a signed body.
func (c *client) mayTrySigned() bool {
	return time.Since(time.Unix(0, c.signedAt.Load())) > signedAgain
}

// triedSigned notes how the store has answered a signed Put after it had refused the unsigned one,
// and reports whether it has taken the signature.
func (c *client) triedSigned(b *bucket, err error) bool {
	if refusesUnsigned(err) {
		c.signedAt.Store(time.Now().UnixNano())
		return false
	}
	if e := (*answerError)(nil); err != nil && (!errors.As(err, &e) || e.kind == nil) {
		return false // it says nothing of signatures
	}
	if !c.signs.Swap(true) {
		c.options.Log.Info("store takes no body that is not signed: bodies are signed from now on "+
			"(sign_payload does so from the start)", "bucket", b.String())
	}
	return true
}
