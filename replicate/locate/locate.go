package locate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	neturl "net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/bell"
	"verneuil/replicate/versions"
	"verneuil/spool/sqlitefile"
)

// Locator finds the manifest of one source. It is safe for concurrent use.
type Locator struct {
	uri string // in one form for all ways of writing it
	key string // of the manifest of a host's database; empty: it is one object

	// object returns the stored manifest of a source that is one object; nil: it is none.
	object func(ctx context.Context, etag string) (body []byte, newest string, err error)

	sealer chunkstore.Sealer

	autoRefresh *bool // as a replica file wants it; nil: it does not say, or there is none

	store *chunkstore.Store // nil: there is none

	// The buckets that have the manifest, and its key in them; nil: it is in none.
	buckets func() ([]manifests, string, error)
}

// manifests is a bucket that may have the source's, and its target; nil: the source is one object.
type manifests struct {
	chunkstore.Bucket
	target *chunkstore.Target
}

// Parse understands, without a request to a store, these forms of uri:
//
//	verneuil://HOST/PATH                 the manifest of HOST's database /PATH in store; if HOST
//	                                     is empty, of localHost's
//	s3://BUCKET.REGION[.ENDPOINT]/KEY    one object; ENDPOINT may end in a port
//	http://…, https://…                  what a GET answers
//	file://PATH, or a path               a manifest's file, or a [ReplicaFile], which stands for
//	                                     its source
//
// Everything after the scheme is taken literally: percent signs are part of
// manifests' names. store may be nil for all forms but the first.
func Parse(uri, localHost string, store *chunkstore.Store) (*Locator, error) {
	l, err := parse(uri, localHost, store)
	if l != nil {
		l.sealer, l.store = store.Sealer(), store
	}
	return l, err
}

// parse is Parse but for the locator's sealer.
func parse(uri, localHost string, store *chunkstore.Store) (*Locator, error) {
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return locateFile(uri, localHost, store)
	}
	switch strings.ToLower(scheme) {
	case "verneuil":
		return locateNamed(rest, localHost, store)
	case "file":
		return locateFile(rest, localHost, store)
	case "http", "https":
		timeout := store.Options().Timeout
		return &Locator{
			uri: uri,
			object: func(
				ctx context.Context, etag string,
			) (body []byte, newest string, err error) {
				bounded, cancel := context.WithTimeout(ctx, timeout)
				defer cancel()
				body, newest, err = getHTTP(bounded, uri, etag)
				if err != nil && bounded.Err() != nil && ctx.Err() == nil {
					err = fmt.Errorf("%w in %v", chunkstore.ErrNoAnswer, timeout)
				}
				return body, newest, err
			},
		}, nil
	}
	l, err := locateObject(strings.ToLower(scheme)+"://"+rest, store.Options())
	if l != nil || err != nil {
		return l, err
	}
	return nil, fmt.Errorf(
		"manifest %q: unknown scheme %q: want verneuil, %s, http, https, file or a path",
		Redacted(uri), scheme, strings.Join(chunkstore.Schemes(), ", "))
}

// URI is the source's, in one form for all ways of writing it. It may hold secrets: people and
// logs are shown [Locator.String].
func (l *Locator) URI() string { return l.uri }

// AutoRefresh is what the replica file says of it; nil: it does not say, or there is none.
func (l *Locator) AutoRefresh() *bool { return l.autoRefresh }

// String is the source's URI for people and logs: see [Redacted].
func (l *Locator) String() string { return Redacted(l.uri) }

// Redacted returns uri without what may be a secret: what stands before an @, and
// the query, which is the signature of a presigned URL. Paths, and the names of a
// verneuil:// URI, are no secrets, and may hold these signs.
func Redacted(uri string) string {
	scheme, rest, ok := strings.Cut(uri, "://")
	if lower := strings.ToLower(scheme); !ok || lower == "file" || lower == "verneuil" {
		return uri
	}
	if query := strings.IndexAny(rest, "?#"); query >= 0 {
		rest = rest[:query] + "?..."
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = "..." + rest[at:]
	}
	return scheme + "://" + rest
}

// Named reports whether the source is a host's database and not one object: then
// several targets may answer, of which one may lag.
func (l *Locator) Named() bool { return l.key != "" }

// News returns a channel that gets a value when a target may have a newer version, where a target
// can tell of that and lets us listen, until ctx ends; nil: none can.
func (l *Locator) News(ctx context.Context) <-chan struct{} {
	var news chan struct{}
	for _, t := range l.Targets() {
		if _, ok := t.Chunks.(chunkstore.Messenger); !ok {
			continue
		}
		if news == nil {
			news = make(chan struct{}, 1)
		}
		bell.New(bell.Options{Bucket: t.Chunks, Name: versions.NewsName(l.key),
			Log: l.store.Options().Log, Run: func(_ string, f func(context.Context)) bool {
				go f(ctx)
				return true
			}}).HearInto(ctx, bell.Record, news)
	}
	return news
}

// Targets returns those that may have the manifest, if the source is [Locator.Named]. It is not the
// caller's to change.
func (l *Locator) Targets() []*chunkstore.Target {
	if !l.Named() {
		return nil
	}
	return l.store.Targets
}

// Key returns the manifest's key in each target, if the source is [Locator.Named].
func (l *Locator) Key() string { return l.key }

func locateNamed(rest, localHost string, store *chunkstore.Store) (*Locator, error) {
	host, path, ok := strings.Cut(rest, "/")
	if !ok {
		return nil, fmt.Errorf("manifest %q: want verneuil://HOST/PATH", "verneuil://"+rest)
	}
	if host == "" {
		host = localHost
	}
	path = "/" + path
	uri := "verneuil://" + host + path
	if store == nil || len(store.Targets) == 0 {
		return nil, fmt.Errorf("manifest %s: no replication target is configured: "+
			"replication_targets in VERNEUIL_CONFIG names them", uri)
	}
	return named(uri, manifest.Name(store.Sealer(), host, path), store), nil
}

// named returns the locator of the database whose manifest has that key in the targets of store.
func named(uri, key string, store *chunkstore.Store) *Locator {
	return &Locator{uri: uri, key: key, buckets: func() (all []manifests, _ string, err error) {
		for _, t := range store.Targets {
			all = append(all, manifests{t.Manifests, t})
		}
		return all, key, nil
	}}
}

// locateObject returns the locator of one object, of a provider's scheme; nil: no provider has it.
func locateObject(uri string, o chunkstore.Options) (*Locator, error) {
	l := &Locator{uri: uri}
	at, known, err := chunkstore.ParseAddress(uri)
	if !known {
		return nil, nil
	}
	if err == nil && at.Key == "" {
		err = fmt.Errorf("want %s", at.Form)
	}
	if err != nil {
		return nil, fmt.Errorf("manifest %q: %w", l, err)
	}
	// Opened at the first use: a Locator that is never used costs nothing.
	open := sync.OnceValues(func() (chunkstore.Bucket, error) {
		return at.Open(chunkstore.Options{Timeout: o.Timeout, Log: o.Log})
	})
	l.buckets = func() ([]manifests, string, error) {
		bucket, err := open()
		return []manifests{{bucket, nil}}, at.Key, err
	}
	l.object = func(
		ctx context.Context, etag string,
	) (body []byte, newest string, err error) {
		bucket, err := open()
		if err != nil {
			return nil, "", err
		}
		o, err := bucket.Get(ctx, at.Key,
			chunkstore.GetOptions{IfNoneMatch: etag, BytesMax: manifest.BytesMax})
		return o.Body, o.ETag, err
	}
	return l, nil
}

// httpClient serves http(s):// manifests.
var httpClient = &http.Client{}

func getHTTP(ctx context.Context, url, etag string) ([]byte, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, "", errors.New("not a URL") // err repeats it, secrets and all
	}
	if etag != "" {
		request.Header.Set("If-None-Match", etag)
	}
	response, err := httpClient.Do(request)
	if inURL := (*neturl.Error)(nil); errors.As(err, &inURL) {
		err = inURL.Err // without the query: our caller names the source
	}
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotModified:
		return nil, "", chunkstore.ErrUnmodified
	case http.StatusNotFound, http.StatusGone:
		return nil, "", fmt.Errorf("%w (%s)", chunkstore.ErrAbsent, response.Status)
	default:
		return nil, "", fmt.Errorf("the server answers %s", response.Status)
	}
	body, err := readManifest(response.Body)
	return body, response.Header.Get("ETag"), err
}

func locateFile(path, localHost string, store *chunkstore.Store) (*Locator, error) {
	if path == "" {
		return nil, errors.New("manifest: empty path")
	}
	path, err := filepath.Abs(path) // the host may change its directory
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", path, err)
	}
	f, ok, err := openReplicaFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	} else if ok {
		l, err := locateNamed(strings.TrimPrefix(f.Source, "verneuil://"), localHost, store)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		l.autoRefresh = f.AutoRefresh
		return l, nil
	}
	return &Locator{
		uri: "file://" + path,
		object: func(_ context.Context, etag string) (body []byte, newest string, err error) {
			return getFile(path, etag)
		},
	}, nil
}

// getFile's ETag is what stat says: a file is replaced by rename, or rewritten.
func getFile(path, etag string) ([]byte, string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", chunkstore.ErrAbsent
	} else if err != nil {
		return nil, "", err
	}
	if !info.Mode().IsRegular() {
		return nil, "", fmt.Errorf("%w: not a regular file", chunkstore.ErrCorrupt)
	}
	found := fmt.Sprintf("%d-%d", info.ModTime().UnixNano(), info.Size())
	// A file that was changed within the clock's resolution may change again unseen.
	if found == etag && time.Since(info.ModTime()) > time.Second {
		return nil, "", chunkstore.ErrUnmodified
	}
	if abandoned.has(info) {
		return nil, "", errDatabase
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	body, err := readManifest(file)
	if strings.HasPrefix(string(body), sqlitefile.Magic) {
		abandoned.add(file, info)
		return nil, "", errDatabase
	}
	file.Close()
	return body, found, err
}

var errDatabase = fmt.Errorf("%w: a database, not a manifest", chunkstore.ErrCorrupt)

// abandoned holds databases that were taken for manifests. They are never closed:
// if this process has one open, that would drop the locks that SQLite holds on it
// (fcntl(2)).
var abandoned fileList

type fileList struct {
	mu    sync.Mutex
	files []*os.File // kept from the finalizer
	infos []fs.FileInfo
}

func (l *fileList) has(info fs.FileInfo) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.infos,
		func(known fs.FileInfo) bool { return os.SameFile(known, info) })
}

func (l *fileList) add(file *os.File, info fs.FileInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files, l.infos = append(l.files, file), append(l.infos, info)
}

func readManifest(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, manifest.BytesMax+1))
	if err != nil {
		return body, err
	}
	if len(body) > manifest.BytesMax {
		return body, fmt.Errorf("%w: longer than %d bytes", chunkstore.ErrCorrupt,
			manifest.BytesMax)
	}
	return body, nil
}
