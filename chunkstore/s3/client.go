package s3

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"verneuil/chunkstore"
)

const (
	// attemptsMax of one request. Between them it waits for 0.2, 0.8 and 3.2 s, or
	// down to half of that.
	attemptsMax    = 4
	backoffDefault = 200 * time.Millisecond
	// connectTimeout, and half of what a request may take.
	connectTimeout = 5 * time.Second
	idleTimeout    = 90 * time.Second
	// bufferBytes of each connection, twice: a head and a chunk together are few writes.
	bufferBytes = 32 << 10
)

// client is the SDK's client for one entry of the configuration, made at first
// use: credentials and profiles are not read before.
type client struct {
	region   string
	endpoint string // empty: AWS's own for the region
	config   Config
	options  chunkstore.Options
	limit    *chunkstore.Limiter
	waits    *chunkstore.Watch

	making  chan struct{} // holds a value while nobody makes current
	current atomic.Pointer[session]
	renewed time.Time // when the credentials were read again last; of who has making's value

	sums      sums
	bareETags atomic.Bool  // the store compares ETags without their quotes
	signs     atomic.Bool  // the store takes no body that is not signed
	signedAt  atomic.Int64 // when a signed body was refused like one that is not, Unix ns
}

// session is the SDK's client, and where its credentials come from.
type session struct {
	*s3.Client
	credentials aws.CredentialsProvider
}

func newClient(c Config, limit *chunkstore.Limiter, o chunkstore.Options) *client {
	region, endpoint := c.place()
	c.backoff = cmp.Or(c.backoff, backoffDefault)
	made := &client{region: region, endpoint: endpoint, config: c, options: o, limit: limit,
		waits: chunkstore.NewWatch(o, 1), making: make(chan struct{}, 1)}
	made.making <- struct{}{}
	return made
}

func (c *client) get(ctx context.Context) (*session, error) {
	if session := c.current.Load(); session != nil {
		return session, nil
	}
	done, err := c.takeTurn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if session := c.current.Load(); session != nil {
		return session, nil
	}
	session, err := c.openInTime(ctx)
	if err == nil {
		c.current.Store(session)
	}
	return session, err // the next caller tries again
}

// openInTime is open within the time of a request: credentials may come from a process, or over
// the network.
func (c *client) openInTime(ctx context.Context) (*session, error) {
	bounded, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	w := c.waits.Begin(credentials{}, "read", c.options.Timeout, 0)
	session, err := c.open(bounded)
	late := err != nil && bounded.Err() != nil && ctx.Err() == nil
	w.End(!late)
	if late {
		err = fmt.Errorf("read the AWS credentials: %w",
			&chunkstore.NoAnswerError{Timeout: c.options.Timeout})
	}
	return session, err
}

// credentials are what is waited for before there is a bucket to ask.
type credentials struct{}

func (credentials) String() string { return "source of the AWS credentials" }

// takeTurn waits until nobody else makes c.current.
func (c *client) takeTurn(ctx context.Context) (done func(), err error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case turn := <-c.making:
		return func() { c.making <- turn }, nil
	}
}

func (c *client) open(ctx context.Context) (*session, error) {
	loaded, err := config.LoadDefaultConfig(ctx,
		config.WithRegion(c.region),
		config.WithHTTPClient(c.httpClient()),
		config.WithRetryer(c.newRetryer),
		config.WithLogger(logging.LoggerFunc(func(level logging.Classification, format string,
			args ...any) {
			// it would write to stderr
			c.options.Log.Debug("aws sdk: "+fmt.Sprintf(format, args...), "level", level)
		})))
	if err != nil {
		return nil, fmt.Errorf("load the AWS configuration: %w", err)
	}
	// The first request would do the same, and bury the reason.
	if _, err := loaded.Credentials.Retrieve(ctx); err != nil {
		return nil, fmt.Errorf("no AWS credentials "+
			"(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role): %w", err)
	}
	client := s3.NewFromConfig(loaded, func(o *s3.Options) {
		if c.endpoint != "" {
			o.BaseEndpoint = aws.String(c.endpoint)
		}
		o.UsePathStyle = !c.config.DomainAddressing
		o.HTTPSignerV4 = newSigner()
		o.HTTPClient = wholeWrites{o.HTTPClient}
		// Every Put carries a checksum in its head, see sum.go; the SDK's own travel as
		// trailers, which many refuse. What a Get returns is checked against its ID.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.APIOptions = append(o.APIOptions, c.addMiddleware)
	})
	return &session{client, loaded.Credentials}, nil
}

// httpClient is the SDK's own kind: with another the SDK refuses AWS_CA_BUNDLE. An attempt has to
// begin to be answered in half of the time that the request has, so that another connection can be
// tried; what the rest takes, the request's own deadline bounds.
func (c *client) httpClient() *awshttp.BuildableClient {
	half := c.options.Timeout / 2
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = min(connectTimeout, half) }).
		WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = c.options.Concurrency
			t.MaxIdleConns = 2 * c.options.Concurrency
			t.IdleConnTimeout = idleTimeout
			t.WriteBufferSize, t.ReadBufferSize = bufferBytes, bufferBytes
			t.ResponseHeaderTimeout = half
		})
}

// wholeWrites has net/http write the head and the body of a Put together: it writes the head by
// itself unless it knows that the body is in memory, and the SDK hides that.
type wholeWrites struct{ client s3.HTTPClient }

func (w wholeWrites) Do(r *http.Request) (*http.Response, error) {
	if put, ok := r.Context().Value(requestKey{}).(*request); ok && len(put.puts) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(put.puts))
	}
	return w.client.Do(r)
}

// newRetryer is the SDK's standard one. Its token bucket is off: a long outage
// would empty it, and our own limiter bounds what retries cost.
func (c *client) newRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attemptsMax
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			whole := c.config.backoff << (2 * max(0, attempt-1))
			return whole/2 + rand.N(whole/2), nil
		})
		o.RateLimiter = ratelimit.None
		o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(notWithoutTime)},
			o.Retryables...)
		o.Retryables = append(o.Retryables,
			retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{
				http.StatusRequestTimeout: {}, http.StatusTooManyRequests: {},
			}},
			retry.RetryableErrorCode{Codes: map[string]struct{}{
				"ConditionalRequestConflict": {}, "OperationAborted": {},
			}})
	})
}

// notWithoutTime: what has used up its time is not tried again.
func notWithoutTime(err error) aws.Ternary {
	if late := (*chunkstore.NoAnswerError)(nil); errors.As(err, &late) {
		return aws.FalseTernary
	}
	return aws.UnknownTernary
}

// request is what the middlewares and the caller of one request share, by way
// of its context.
type request struct {
	attempts int
	puts     []byte // the body of a Put
	object   bool   // a good answer is about an object, which has an ETag
	head     bool
	unsigned bool  // of a Put's body only the checksum in a header is signed
	bytes    int64 // about how many its body, or that of its answer, has; 0: few
	bodyMax  int64 // of a Get
	part     int64 // bytes of an object that are asked for; 0: all
	body     []byte
	tooLong  bool

	sent func() *chunkstore.Request // called when the first attempt is sent
	wait *chunkstore.Request        // what it returned
	held time.Duration              // how long later attempts waited for our own limiter
	asks bool                       // the next attempt sends its body only once the server wants it
}

type requestKey struct{}

func withRequest(ctx context.Context, r *request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// addMiddleware: what must happen in every attempt goes below the SDK's "Retry".
func (c *client) addMiddleware(stack *middleware.Stack) error {
	limit := middleware.FinalizeMiddlewareFunc("VerneuilLimit", c.beforeAttempt)
	err := stack.Finalize.Insert(limit, "Retry", middleware.After)
	if err != nil {
		return err
	}
	err = stack.Deserialize.Insert(middleware.DeserializeMiddlewareFunc("VerneuilBody", readBody),
		"OperationDeserializer", middleware.After)
	if err != nil {
		return err
	}
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("VerneuilGunzip", gunzip),
		middleware.After)
}

// beforeAttempt has each attempt wait for its token.
func (c *client) beforeAttempt(ctx context.Context, in middleware.FinalizeInput,
	next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
	r, ok := ctx.Value(requestKey{}).(*request)
	asked := time.Now()
	if err := c.limit.Take(ctx); err != nil { // I4
		return middleware.FinalizeOutput{}, middleware.Metadata{}, err
	}
	if !ok {
		return next.HandleFinalize(ctx, in)
	}
	if r.unsigned {
		ctx = v4.SetPayloadHash(ctx, "UNSIGNED-PAYLOAD")
	}
	return c.attempt(ctx, r, time.Since(asked), in, next)
}

// attempt sends r once more, within what is left of its time. held is how long it has waited for
// the limiter.
func (c *client) attempt(ctx context.Context, r *request, held time.Duration,
	in middleware.FinalizeInput,
	next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
	if r.attempts++; r.attempts == 1 {
		r.wait = r.sent()
	} else {
		r.held += held
		r.wait.Again()
	}
	attempt, cancel := context.WithTimeout(ctx, r.wait.Left(r.held))
	defer cancel()
	if sent, ok := in.Request.(*smithyhttp.Request); ok && r.asks {
		sent.Header.Set("Expect", "100-continue")
	}
	out, metadata, err := next.HandleFinalize(attempt, in)
	r.asks = r.asks || brokeOff(err)
	switch {
	case err != nil && attempt.Err() != nil && ctx.Err() == nil:
		err = r.wait.NoAnswer()
	case err != nil:
		r.wait.Failed(asAnswerError(err, 1, r.head))
	}
	return out, metadata, err
}

// brokeOff: err may hide an answer. A server that refuses a request before it has read the whole
// body may close the connection, and the reset drops what it answered (RFC 9112, section 9.6).
func brokeOff(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, net.ErrClosed) // net/http closes it as soon as it sees the reset
}

// gunzip comes before all that look at an answer's body.
func gunzip(ctx context.Context, in middleware.DeserializeInput,
	next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	out, metadata, err := next.HandleDeserialize(ctx, in)
	response, ok := out.RawResponse.(*smithyhttp.Response)
	if ok && response.Body != nil && strings.EqualFold(response.Header.Get("Content-Encoding"),
		"gzip") {
		response.Body, response.ContentLength = &gunzipped{body: response.Body}, -1
	}
	return out, metadata, err
}

// errForeign: something between us and the store has answered 200 in its place, as a
// portal or a balancer does with a page of its own. It is no answer.
var errForeign = fmt.Errorf("the answer is not an S3 store's: %w", chunkstore.ErrForeign)

// readBody reads the body of a Get within the attempt, so that a connection that
// breaks in the middle is tried again like one that breaks before. An answer that is
// not the store's is none, either.
func readBody(ctx context.Context, in middleware.DeserializeInput,
	next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	out, metadata, err := next.HandleDeserialize(ctx, in)
	r, ok := ctx.Value(requestKey{}).(*request)
	response, isHTTP := out.RawResponse.(*smithyhttp.Response)
	if err != nil || !ok || !isHTTP {
		return out, metadata, err
	}
	partial := response.StatusCode == http.StatusPartialContent && r.part > 0
	if response.StatusCode != http.StatusOK && !partial {
		response.Body = limitedBody{io.LimitReader(response.Body, errorBytesMax), response.Body}
		return out, metadata, nil
	}
	if r.object && response.Header.Get("ETag") == "" {
		response.Body.Close()
		return out, metadata, &smithyhttp.RequestSendError{Err: errForeign}
	}
	if r.bodyMax == 0 {
		response.Body = limitedBody{io.LimitReader(response.Body, answerBytesMax), response.Body}
		return out, metadata, nil
	}
	if partial {
		r.bodyMax = r.part
	}
	r.body, err = readAtMost(response.Body, response.ContentLength, r.bodyMax+1)
	response.Body.Close() // after a body that is too long, this drops the connection
	response.Body = http.NoBody
	if err != nil {
		err = fmt.Errorf("read the response's body: %w", err)
		return out, metadata, &smithyhttp.RequestSendError{Err: err}
	}
	r.tooLong = int64(len(r.body)) > r.bodyMax
	return out, metadata, nil
}

// What the SDK reads, and keeps, of an answer that is no object: a list has 1,000 keys of at
// most 1,024 bytes.
const (
	answerBytesMax = 4 << 20
	errorBytesMax  = 64 << 10
)

// gunzipped is a body that somebody between us and the store has compressed, who had asked it for
// that in our name. No object of ours is stored so.
type gunzipped struct {
	body  io.ReadCloser
	plain *gzip.Reader
}

func (g *gunzipped) Read(p []byte) (n int, err error) {
	if g.plain == nil {
		if g.plain, err = gzip.NewReader(g.body); err != nil {
			return 0, err
		}
	}
	return g.plain.Read(p)
}

func (g *gunzipped) Close() error { return g.body.Close() }

// limitedBody is the beginning of a body.
type limitedBody struct {
	io.Reader
	io.Closer
}

// announcedMax is how much memory an answer gets because it says that it is so long: a pack's.
const announcedMax = 8 << 20

// readAtMost reads r to its end, or n bytes of it. announced may be -1.
func readAtMost(r io.Reader, announced, n int64) ([]byte, error) {
	room := bytes.MinRead + max(0, min(announced, n, announcedMax))
	buf := bytes.NewBuffer(chunkstore.NewBody(room))
	_, err := buf.ReadFrom(io.LimitReader(r, n))
	return buf.Bytes(), err
}

// answerError is what an s3 store answered, in one line and without secrets.
type answerError struct {
	code     string // S3's, such as NoSuchBucket
	status   int    // HTTP's
	attempts int
	message  string
	kind     error // nil: none of ours
	cause    error
}

func (e *answerError) Error() string {
	text := e.message
	if e.code != "" {
		text = fmt.Sprintf("%s (HTTP %d): %s", e.code, e.status, e.message)
	}
	if e.kind != nil {
		text = e.kind.Error() + ": " + text
	}
	if e.attempts > 1 {
		text += fmt.Sprintf(" (after %d attempts)", e.attempts)
	}
	return text
}

func (e *answerError) Unwrap() []error {
	if e.kind == nil {
		return []error{e.cause}
	}
	return []error{e.kind, e.cause}
}

// Is: the store may say no more than that of an object which is absent.
func (e *answerError) Is(target error) bool {
	return target == chunkstore.ErrDenied && e.status == http.StatusForbidden &&
		e.code == "AccessDenied"
}

// codeOfPage is what the SDK makes of a 404 without a code: the answer to a HEAD, or a page
// of something that stands between us and the store, which says nothing of the object.
const codeOfPage = "NotFound"

// asAnswerError translates an error of the SDK, at the edge. head: it was the answer to a HEAD.
func asAnswerError(err error, attempts int, head bool) *answerError {
	e := &answerError{attempts: attempts, message: err.Error(), cause: err}
	var operation *smithy.OperationError
	if errors.As(err, &operation) {
		e.message = operation.Err.Error()
	}
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		e.status = response.HTTPStatusCode()
		e.message = response.Err.Error()
	}
	var api smithy.APIError
	if errors.As(err, &api) && e.status != 0 {
		e.code, e.message = api.ErrorCode(), api.ErrorMessage()
	}
	var send *smithyhttp.RequestSendError
	if errors.As(err, &send) && send.Err != nil {
		e.message = send.Err.Error()
	}
	var inURL *url.Error // names the endpoint, which our caller does, too
	if errors.As(err, &inURL) {
		e.message = inURL.Err.Error()
	}
	switch {
	case e.code == "NoSuchBucket":
		e.kind = chunkstore.ErrNoBucket
	case e.status == http.StatusNotFound && (head || e.code != codeOfPage):
		e.kind = chunkstore.ErrAbsent
	case e.status == http.StatusRequestedRangeNotSatisfiable:
		e.kind = chunkstore.ErrCorrupt // the object ends before the part
	case e.status == http.StatusNotModified:
		e.kind = chunkstore.ErrUnmodified
	case e.status == http.StatusPreconditionFailed,
		e.code == "ConditionalRequestConflict", e.code == "OperationAborted":
		e.kind = chunkstore.ErrConflict
	}
	return e
}

// missing says that a missing bucket is an empty one, if Put would make it.
func (c *client) missing(err error) error {
	if errors.Is(err, chunkstore.ErrNoBucket) && c.config.CreateBucketsOnDemand {
		return chunkstore.ErrAbsent
	}
	return err
}

// missingList is missing for the answer to a list: of a bucket that is there that is no 404, and
// what gives one must not be taken for an empty list.
func (c *client) missingList(err error) error {
	if errors.Is(err, chunkstore.ErrAbsent) {
		return fmt.Errorf("%w: %v", errForeign, err)
	}
	return c.missing(err)
}
