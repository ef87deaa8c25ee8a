package probe_test

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// odd is an S3 store that does as S3 does, but for what it is told.
type odd struct {
	skew          time.Duration
	ignoresConds  bool
	ignoresRanges bool
	takesDamage   bool
	racy          int  // so many who create the first want all look, and then all write
	comparesBare  bool // If-Match never holds
	forgetsLists  bool
	keepsOld      bool // a Get returns what a key had first
	deniesDeletes bool
	noCopies      bool

	mu      sync.Mutex
	objects map[string][]byte
	race    string // the key that is raced for
	racers  int
	all     chan struct{} // closed when all have looked
}

// start starts the store, whose buckets all exist, and returns its URL.
func (o *odd) start(t *testing.T) string {
	o.objects, o.all = map[string][]byte{}, make(chan struct{})
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	return server.URL
}

func etagOf(body []byte) string {
	sum := md5.Sum(body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>odd</Message></Error>", code)
}

func (o *odd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Date", time.Now().Add(o.skew).UTC().Format(http.TimeFormat))
	query := r.URL.Query()
	switch {
	case query.Has("versioning"):
		io.WriteString(w, "<VersioningConfiguration/>")
	case query.Has("object-lock"), query.Has("lifecycle"):
		refuse(w, http.StatusNotFound, "NoSuchConfiguration")
	case query.Has("list-type"):
		o.list(w, r)
	case r.Header.Get("Authorization") == "":
		refuse(w, http.StatusForbidden, "AccessDenied")
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		o.copy(w, r)
	case r.Method == http.MethodPut:
		o.put(w, r, body)
	case r.Method == http.MethodDelete && o.deniesDeletes:
		refuse(w, http.StatusForbidden, "AccessDenied")
	case r.Method == http.MethodDelete:
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.objects, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	default:
		o.get(w, r)
	}
}

func (o *odd) copy(w http.ResponseWriter, r *http.Request) {
	if o.noCopies {
		refuse(w, http.StatusNotImplemented, "NotImplemented")
		return
	}
	fmt.Fprintf(w, "<CopyObjectResult><LastModified>%s</LastModified><ETag>%s</ETag>"+
		"</CopyObjectResult>", time.Now().Add(o.skew).UTC().Format(time.RFC3339), etagOf(nil))
}

func (o *odd) get(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	body, ok := o.objects[r.URL.Path]
	o.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	w.Header().Set("ETag", etagOf(body))
	w.Header().Set("Last-Modified", time.Now().Add(o.skew).UTC().Format(http.TimeFormat))
	if o.ignoresRanges {
		r.Header.Del("Range")
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(body)))
}

func (o *odd) put(w http.ResponseWriter, r *http.Request, body []byte) {
	sum := md5.Sum(body)
	if want := r.Header.Get("Content-MD5"); want != "" && !o.takesDamage &&
		want != base64.StdEncoding.EncodeToString(sum[:]) {
		refuse(w, http.StatusBadRequest, "BadDigest")
		return
	}
	creates, match := r.Header.Get("If-None-Match") == "*", r.Header.Get("If-Match")
	o.mu.Lock()
	defer o.mu.Unlock()
	there, ok := o.objects[r.URL.Path]
	if !o.ignoresConds && (creates && ok || match != "" && (!ok || match != etagOf(there) ||
		o.comparesBare)) {
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	if creates && o.racy > 0 && strings.Contains(r.URL.Path, "/want-") {
		o.wait(r.URL.Path)
	}
	if !o.keepsOld || !ok {
		o.objects[r.URL.Path] = body
	}
	w.Header().Set("ETag", etagOf(body))
	if crc := r.Header.Get("X-Amz-Checksum-Crc32c"); crc != "" {
		w.Header().Set("X-Amz-Checksum-Crc32c", crc)
	}
}

// wait waits, without the lock, until all racers have seen that there is no object.
func (o *odd) wait(path string) {
	if o.race == "" {
		o.race = path
	}
	if path != o.race {
		return
	}
	if o.racers++; o.racers == o.racy {
		close(o.all)
	}
	o.mu.Unlock()
	<-o.all
	o.mu.Lock()
}

func (o *odd) list(w http.ResponseWriter, r *http.Request) {
	type content struct {
		Key          string
		Size         int
		LastModified string
	}
	var result struct {
		XMLName  xml.Name `xml:"ListBucketResult"`
		Name     string
		Contents []content
	}
	bucket := "/" + strings.Trim(r.URL.Path, "/") + "/"
	result.Name = strings.Trim(bucket, "/")
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(o.objects)) {
		key, ok := strings.CutPrefix(path, bucket)
		if ok && strings.HasPrefix(key, r.URL.Query().Get("prefix")) && !o.forgetsLists {
			result.Contents = append(result.Contents, content{key, len(o.objects[path]),
				time.Now().Add(o.skew).UTC().Format(time.RFC3339)})
		}
	}
	text, _ := xml.Marshal(result)
	w.Write(text)
}
