package spool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"verneuil/chunkstore"
)

// sourceConfigBytesMax bounds source.json.
const sourceConfigBytesMax = 1 << 20

// SourceConfig is what source.json keeps: what a replicator needs to know, so
// that one can run without the application's configuration. There are no
// credentials in it, ever.
type SourceConfig struct {
	Path               string                   `json:"path"` // of the database, canonical
	Host               string                   `json:"host"`
	Targets            chunkstore.TargetConfigs `json:"targets"`
	ManifestIntervalMS int64                    `json:"manifest_interval_ms"`
	APICallsPerSecond  float64                  `json:"api_calls_per_second"`
	UploadConcurrency  int                      `json:"upload_concurrency"`
	// 0: the default
	TimeoutMS int64 `json:"store_timeout_ms,omitempty"`
	// Where the keys are from that encrypt what the targets hold; they themselves are not here.
	KeyFile    string   `json:"key_file,omitempty"`
	KeyCommand []string `json:"key_command,omitempty"`
}

// ReadSourceConfig reads the source.json of the spool in dir, which need not date from this
// boot. It fails with fs.ErrNotExist if there is none, with
// [chunkstore.ErrCorrupt] if it makes no sense or belongs to another database, and where
// [Trust] fails: the file decides where a database is sent.
func ReadSourceConfig(dir string) (SourceConfig, error) {
	var b []byte
	err := Trust(dir)
	if err == nil {
		b, err = readFile(dir, "source.json", sourceConfigBytesMax)
	}
	if err != nil {
		return SourceConfig{}, fmt.Errorf("read source.json: %w", err)
	}
	c, err := ParseSourceConfig(b)
	if err == nil && filepath.Base(dir) != Name(c.Path) {
		err = fmt.Errorf("%w: it belongs to %q", chunkstore.ErrCorrupt, c.Path)
	}
	if err != nil {
		return SourceConfig{}, fmt.Errorf("read source.json of %s: %w", dir, err)
	}
	return c, nil
}

// PathOf returns the path of the database whose spool is in dir: what its state says, which
// need not be of this boot. Errors are those of [ReadSourceConfig].
func PathOf(dir string) (string, error) {
	st, err := peekState(dir)
	if err != nil {
		return "", fmt.Errorf("read state of %s: %w", dir, err)
	}
	return st.Path(), nil
}

// ParseSourceConfig decodes the text of a source.json.
func ParseSourceConfig(b []byte) (SourceConfig, error) {
	var c SourceConfig
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&c); err != nil {
		return SourceConfig{}, fmt.Errorf("%w: %w", chunkstore.ErrCorrupt, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return SourceConfig{}, fmt.Errorf("%w: text after the object", chunkstore.ErrCorrupt)
	}
	if !filepath.IsAbs(c.Path) || c.Host == "" {
		return SourceConfig{}, fmt.Errorf("%w: it lacks an absolute path or a host",
			chunkstore.ErrCorrupt)
	}
	for i, t := range c.Targets {
		if err := t.Validate(fmt.Sprintf("targets[%d].%s", i, t.Kind())); err != nil {
			return SourceConfig{}, fmt.Errorf("%w: %w", chunkstore.ErrCorrupt, err)
		}
	}
	return c, nil
}

// WriteSourceConfig replaces the spool's source.json, if it is not c already. The
// caller need not hold the spool's lock: processes that open a database at one time
// each write a file of their own first.
func (s *Spool) WriteSourceConfig(c SourceConfig) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err == nil {
		b = append(b, '\n')
		old, oldErr := s.ReadFile("source.json", sourceConfigBytesMax)
		if oldErr == nil && bytes.Equal(old, b) {
			return nil
		}
		var f *os.File
		if f, err = os.CreateTemp(s.dir, "source.json.new-"); err == nil {
			if err = putInPlace(f, filepath.Join(s.dir, "source.json"), b, false); err != nil {
				os.Remove(f.Name())
			}
		}
	}
	if err != nil {
		return fmt.Errorf("write source.json: %w", err)
	}
	return nil
}
