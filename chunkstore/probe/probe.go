package probe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"verneuil/chunkstore"
)

// Level says how bad a finding is.
type Level string

// The levels: see the package's comment.
const (
	OK      Level = "ok"
	Note    Level = "note"
	Warning Level = "warning"
	Unsafe  Level = "unsafe"
)

// Finding is one thing that was looked at.
type Finding struct {
	Level  Level  `json:"level"`
	Where  string `json:"where"` // a target, a bucket, or the host
	Check  string `json:"check"` // what was looked at, in one or two words
	Text   string `json:"text"`  // what was found
	Remedy string `json:"remedy,omitempty"`
}

// Options say what a target is for.
type Options struct {
	Write      bool // try what needs the right to put
	Lives      bool // databases live in it; else local ones are replicated to it
	PatrolDays int  // how often what is in use is touched; 0: never
}

// Target looks at t. It fails only if ctx ends: what is wrong is a finding.
func Target(ctx context.Context, t *chunkstore.Target, o Options) ([]Finding, error) {
	p := &prober{t: t, o: o}
	reached := p.bucket(ctx, "chunks", t.Chunks)
	reached = p.bucket(ctx, "manifests", t.Manifests) && reached
	if reached && o.Write {
		p.write(ctx)
	}
	return p.found, ctx.Err()
}

type prober struct {
	t     *chunkstore.Target
	o     Options
	found []Finding
}

func (p *prober) add(level Level, where fmt.Stringer, check, text, remedy string) {
	p.found = append(p.found, Finding{level, where.String(), check, text, remedy})
}

// failed adds what err means.
func (p *prober) failed(where fmt.Stringer, check string, err error) {
	p.add(Unsafe, where, check, err.Error(), remedyOf(err))
}

// remedyOf says what to do about an error of a store.
func remedyOf(err error) string {
	late := (*chunkstore.NoAnswerError)(nil)
	text := err.Error()
	switch {
	case errors.Is(err, chunkstore.ErrNoBucket):
		return "make the bucket, or set create_buckets_on_demand; check region and endpoint"
	case errors.As(err, &late):
		return "check endpoint, proxies and firewalls; store_timeout_ms is how long is waited"
	case strings.Contains(text, "InvalidAccessKeyId"), strings.Contains(text, "SignatureDoesNot"),
		strings.Contains(text, "no AWS credentials"), strings.Contains(text, "ExpiredToken"):
		return "check the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, " +
			"or a role"
	case errors.Is(err, chunkstore.ErrForeign), strings.Contains(text, "(HTTP 30"):
		return "check endpoint, which is not that of a console or a web server, and proxies"
	case strings.Contains(text, "InvalidBucketName"):
		return "a bucket's name has 3 to 63 small letters, digits, dots and hyphens"
	case strings.Contains(text, "RequestTimeTooSkewed"):
		return "set this machine's clock (NTP)"
	case errors.Is(err, chunkstore.ErrDenied):
		return "allow s3:GetObject and, for a writer, s3:PutObject on the bucket's objects"
	case errors.Is(err, chunkstore.ErrKey):
		return "see docs/encryption.md, Begin with an empty bucket"
	case errors.Is(err, chunkstore.ErrUnguarded):
		return "take another store, or replicate local databases to this one"
	case strings.Contains(text, "no such host"), strings.Contains(text, "connection refused"):
		return "check endpoint and region, and whether the store runs; if only subdomains of it " +
			"resolve, set domain_addressing"
	}
	return "see docs/operations.md, The store"
}

// absent is the key of an object that nobody stores.
var absent = chunkstore.ZeroID.String()

// bucket looks at what can be asked without writing. It reports whether the bucket answers.
func (p *prober) bucket(ctx context.Context, kind string, b chunkstore.Bucket) bool {
	began := time.Now()
	if err := chunkstore.Reach(ctx, b); err != nil {
		p.failed(b, "reach", err)
		return false
	}
	p.add(OK, b, "reach", fmt.Sprintf("it answers, in "+
		"%v", time.Since(began).Round(100*time.Microsecond)),
		"")
	if err := chunkstore.CheckRing(ctx, b, p.t.Sealer); err != nil {
		p.failed(b, "keys", err)
		return false
	}
	if err := b.List(ctx, absent, func(chunkstore.Object) bool { return false }); err != nil {
		p.add(Note, b, "rights", "the credentials may not list: "+err.Error(),
			"a writer works without; ls, versions, verify of all, and gc need s3:ListBucket")
	}
	if i, ok := b.(chunkstore.Inspector); ok {
		key := probeKey()
		t, err := i.Inspect(ctx, key, p.o.Write && kind == "chunks")
		if errors.Is(err, chunkstore.ErrNoBucket) { // and reach has said that it will be made
			p.add(Note, b, "reach", "there is no bucket yet", "the first backup makes it; run "+
				"the doctor again then")
			return true
		}
		if err != nil && !errors.Is(err, chunkstore.ErrDenied) {
			p.failed(b, "inspect", err)
			return true
		}
		p.traits(kind, b, t)
		if p.o.Write && kind == "chunks" {
			_ = b.Delete(context.WithoutCancel(ctx), key) // whether it may is asked elsewhere
		}
	}
	return true
}

// Of how many days a rule has to leave beside two patrols.
const expirySlackDays = 1

func (p *prober) traits(kind string, b chunkstore.Bucket, t chunkstore.Traits) {
	if len(t.Unknown) > 0 {
		p.add(Note, b, "rights", "the credentials may not ask for "+strings.Join(t.Unknown, ", "),
			"look there yourself, or run the doctor with an administrator's credentials")
	}
	if t.Public {
		p.add(Unsafe, b, "access", "anybody may read its objects, without credentials",
			"remove the bucket's public policy or ACL; block public access")
	}
	if t.Skew.Abs() > time.Minute {
		level := Warning
		if t.Skew.Abs() > 10*time.Minute {
			level = Unsafe // S3 refuses requests at 15
		}
		p.add(level, b, "clock", fmt.Sprintf("the store's clock is %v ahead of this machine's",
			t.Skew.Round(time.Second)), "set this machine's clock (NTP)")
	}
	for _, e := range t.Expiry {
		if !e.Noncurrent {
			p.expiry(kind, b, e)
		}
	}
	noncurrent := slices.ContainsFunc(t.Expiry,
		func(e chunkstore.Expiry) bool { return e.Noncurrent })
	switch {
	case t.LockDays > 0 && p.o.PatrolDays > 0 && kind == "chunks" && !p.o.Lives:
		p.add(Warning, b, "object lock", fmt.Sprintf("versions stay for %d days (%s), and each "+
			"patrol adds one of each pack", t.LockDays, t.Lock), `set "patrol_days": 0`)
	case t.LockDays > 0:
		p.add(OK, b, "object lock", fmt.Sprintf("versions stay for %d days (%s)", t.LockDays,
			t.Lock), "")
	case t.Versioned && kind == "chunks" && !noncurrent:
		p.add(Warning, b, "versioning", "it keeps what gc deletes, and what patrols touch, for "+
			"ever",
			"give noncurrent versions a rule by which they expire")
	case t.Versioned:
		p.add(OK, b, "versioning", "it keeps versions", "")
	}
	if t.TakesDamage {
		p.add(Warning, b, "checksums", "the store takes a body whose checksum is wrong",
			"what is damaged on the way is stored: run verify --read, or --drill, regularly")
	}
	if t.IgnoresRanges {
		p.add(Warning, b, "ranges", "the store answers with the whole object where a part is "+
			"asked for", "replicas and queries fetch whole packs of 4 MiB: take another store "+
			"or proxy")
	}
}

// expiry judges a rule by which present objects expire.
func (p *prober) expiry(kind string, b chunkstore.Bucket, e chunkstore.Expiry) {
	rule := fmt.Sprintf("the lifecycle rule %q deletes objects after %d days", e.ID, e.Days)
	switch least := 2*p.o.PatrolDays + expirySlackDays; {
	case kind == "manifests":
		p.add(Unsafe, b, "lifecycle", rule+": a database that is not written to for so long is "+
			"lost",
			"let only noncurrent versions of manifests expire, or none")
	case p.o.Lives:
		p.add(Unsafe, b, "lifecycle", rule+": nobody touches the packs of databases that live here",
			"remove the rule, and run verneuilctl gc --delete")
	case p.o.PatrolDays == 0:
		p.add(Unsafe, b, "lifecycle", rule+", and patrol_days is 0: packs in use expire",
			"remove the rule and run verneuilctl gc --delete, or set patrol_days")
	case e.Days < least:
		p.add(Unsafe, b, "lifecycle", fmt.Sprintf("%s, and what is in use is touched within %d: "+
			"packs in use expire", rule, 2*p.o.PatrolDays),
			fmt.Sprintf("let them expire after %d days or more, or lower patrol_days", 4*least))
	default:
		p.add(OK, b, "lifecycle", rule+fmt.Sprintf("; what is in use is touched every %d",
			p.o.PatrolDays), "")
	}
}

func probeKey() string {
	var random [16]byte
	rand.Read(random[:]) // never fails
	return chunkstore.WantKeyPrefix + hex.EncodeToString(random[:])
}

// write tries what needs the right to put.
func (p *prober) write(ctx context.Context) {
	ok := p.conditions(ctx)
	if !ok || ctx.Err() != nil {
		return
	}
	p.objects(ctx)
	p.pace(ctx)
}

// conditions finds out whether the store keeps the conditions of Puts, one after another and at
// once. It reports whether the target can be written to.
func (p *prober) conditions(ctx context.Context) bool {
	_, err := p.t.Prove(ctx)
	if err == nil {
		err = p.t.ProveCreates(ctx)
	}
	switch {
	case err == nil:
		p.add(OK, name(p.t.Name), "conditions", "it creates an object once, also where several "+
			"try "+
			"at once, and replaces only what is expected", "")
	case !errors.Is(err, chunkstore.ErrUnguarded):
		p.failed(name(p.t.Name), "write", err)
		return false
	case p.o.Lives:
		p.failed(name(p.t.Name), "conditions", err)
	default:
		p.add(Warning, name(p.t.Name), "conditions", err.Error(), "one machine at a time may "+
			"write "+
			"a database: two may overwrite each other's versions without being told")
	}
	etag, err := ifMatch(ctx, p.t.Manifests)
	if err != nil && !errors.Is(err, chunkstore.ErrDenied) {
		p.add(Unsafe, p.t.Manifests, "conditions", fmt.Sprintf("it does not replace an object "+
			"whose "+
			"ETag is the one that it gave, %s: %v", etag, err), "take another store or proxy")
	}
	return true
}

// name is a target's.
type name string

func (n name) String() string { return string(n) }

// ifMatch has b replace its marker by the same bytes, if it has the ETag that b gives.
func ifMatch(ctx context.Context, b chunkstore.Bucket) (etag string, err error) {
	o, err := b.Get(ctx, chunkstore.MarkerKey, chunkstore.GetOptions{})
	if err == nil {
		_, err = b.Put(ctx, chunkstore.MarkerKey, o.Body, chunkstore.Condition{IfMatch: o.ETag})
	}
	return o.ETag, err
}

// objects finds out whether what was put is there, is listed, can be touched and deleted.
func (p *prober) objects(ctx context.Context) {
	b := p.t.Chunks
	keys := []string{probeKey(), probeKey(), probeKey()}
	body := []byte("verneuilctl doctor, an object that may be deleted\n")
	for _, key := range keys {
		if _, err := b.Put(ctx, key, body, chunkstore.Condition{IfNone: true}); err != nil {
			p.failed(b, "write", err)
			return
		}
	}
	slices.Sort(keys)
	var listed []string
	err := b.List(ctx, chunkstore.WantKeyPrefix, func(o chunkstore.Object) bool {
		if slices.Contains(keys, o.Key) {
			listed = append(listed, o.Key)
		}
		return ctx.Err() == nil
	})
	if err == nil && !slices.Equal(listed, keys) {
		p.add(Unsafe, b, "list", fmt.Sprintf("of %d objects that were just put it lists %d, in "+
			"the "+
			"order of their keys", len(keys), len(listed)),
			"gc and verify rely on lists: take another store or proxy")
	}
	o, err := b.Get(ctx, keys[0], chunkstore.GetOptions{})
	if err != nil || !bytes.Equal(o.Body, body) {
		p.add(Unsafe, b, "read", fmt.Sprintf("an object that was just put reads as %d bytes, not "+
			"%d: %v", len(o.Body), len(body), err), "take another store or proxy")
	}
	p.touch(ctx, b, keys[0])
	var denied error
	for _, key := range keys {
		denied = cmp.Or(denied, b.Delete(context.WithoutCancel(ctx), key))
	}
	_, remote := b.(chunkstore.Inspector)
	switch {
	case denied == nil && !remote: // of a directory the owner may do everything
	case denied == nil:
		p.add(Note, b, "rights", "the credentials may delete objects, which only gc needs",
			"give writers credentials that may not: see docs/operations.md, Append-only "+
				"credentials")
	case errors.Is(denied, chunkstore.ErrDenied):
		p.add(OK, b, "rights", "the credentials may not delete: gc needs others", "")
	default:
		p.failed(b, "delete", denied)
	}
}

func (p *prober) touch(ctx context.Context, b chunkstore.Bucket, key string) {
	toucher, ok := b.(chunkstore.Toucher)
	if !ok || p.o.PatrolDays == 0 || p.o.Lives {
		return
	}
	switch err := toucher.Touch(ctx, key); {
	case err == nil:
	case errors.Is(err, chunkstore.ErrDenied):
		p.add(Warning, b, "touch", "what is there cannot be touched: "+err.Error(),
			`set "patrol_days": 0, and let nothing expire by a rule`)
	case errors.Is(err, errors.ErrUnsupported):
		p.add(Note, b, "touch", "the store does not make an object young by a copy onto itself",
			`each patrol reads and puts all packs: set "patrol_days": 0 if no rule expires them`)
	}
}

const (
	paceTries = 5
	paceBytes = 4 << 20 // a pack's
)

// pace measures how fast the store is.
func (p *prober) pace(ctx context.Context) {
	b, key := p.t.Chunks, probeKey()
	defer func() { _ = b.Delete(context.WithoutCancel(ctx), key) }()
	small, large := make([]byte, 1000), make([]byte, paceBytes)
	rand.Read(large)
	took := func(f func() error) (time.Duration, bool) {
		began := time.Now()
		err := f()
		return time.Since(began), err == nil
	}
	var put, get []time.Duration
	for range paceTries {
		p, ok := took(func() error {
			_, err := b.Put(ctx, key, small, chunkstore.Condition{})
			return err
		})
		g, alsoOK := took(func() error {
			_, err := b.Get(ctx, key, chunkstore.GetOptions{})
			return err
		})
		if !ok || !alsoOK {
			return // a policy that denies replacing, or what another finding has said
		}
		put, get = append(put, p), append(get, g)
	}
	slices.Sort(put)
	slices.Sort(get)
	up, ok := took(func() error {
		_, err := b.Put(ctx, key, large, chunkstore.Condition{})
		return err
	})
	down, alsoOK := took(func() error {
		_, err := b.Get(ctx, key, chunkstore.GetOptions{About: paceBytes})
		return err
	})
	if !ok || !alsoOK {
		return
	}
	rate := func(d time.Duration) float64 { return paceBytes / 1e6 / d.Seconds() }
	p.add(OK, b, "pace", fmt.Sprintf("put %v, get %v (median of %d); one pack: %.0f MB/s up, "+
		"%.0f MB/s down", put[paceTries/2].Round(10*time.Microsecond),
		get[paceTries/2].Round(10*time.Microsecond), paceTries, rate(up), rate(down)), "")
}
