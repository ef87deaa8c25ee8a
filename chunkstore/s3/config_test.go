package s3_test

import (
	"strings"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/s3"
)

func TestConfigRefused(t *testing.T) {
	cases := []struct {
		want string
		edit func(*s3.Config)
	}{
		{"region: missing", func(c *s3.Config) { c.Region = "" }},
		{"chunk_bucket: missing", func(c *s3.Config) { c.ChunkBucket = "" }},
		{"manifest_bucket: missing", func(c *s3.Config) { c.ManifestBucket = "" }},
		{"manifest_bucket: ", func(c *s3.Config) { c.ManifestBucket = "a/b" }},
		{"bucket: missing: want bucket, or chunk_bucket and", func(c *s3.Config) {
			c.ChunkBucket, c.ManifestBucket = "", ""
		}},
		{"bucket: excludes chunk_bucket and manifest_bucket", func(c *s3.Config) {
			c.Bucket = "b"
		}},
		{`bucket: "a b" cannot be`, func(c *s3.Config) {
			c.ChunkBucket, c.ManifestBucket, c.Bucket = "", "", "a b"
		}},
		{`prefix: "/a": want names with single slashes`, func(c *s3.Config) { c.Prefix = "/a" }},
		{"prefix: ", func(c *s3.Config) { c.Prefix = "/" }},
		{"prefix: ", func(c *s3.Config) { c.Prefix = "a//b" }},
		{"prefix: ", func(c *s3.Config) { c.Prefix = "a/../b" }},
		{"prefix: ", func(c *s3.Config) { c.Prefix = "a\nb" }},
		{"prefix: longer than", func(c *s3.Config) { c.Prefix = strings.Repeat("a/", 300) }},
		{"endpoint: ", func(c *s3.Config) { c.Endpoint = "127.0.0.1:9000" }},
		{"endpoint: ", func(c *s3.Config) { c.Endpoint = "ftp://h" }},
		{"endpoint: credentials do not belong here", func(c *s3.Config) {
			c.Endpoint = "http://id:secret@h"
		}},
		{"region: ", func(c *s3.Config) { c.Endpoint, c.Region = "", "minio." }},
	}
	for _, c := range cases {
		cfg := s3Target("http://127.0.0.1:1")
		c.edit(cfg)
		cfgs := []chunkstore.TargetConfig{s3Target("http://127.0.0.1:1"), cfg}
		_, err := chunkstore.Open(t.Context(), cfgs, chunkstore.Options{})
		want := "replication_targets[1].s3." + c.want
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v\nwant  %s…", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret@") {
			t.Errorf("the secret is in the message: %v", err)
		}
	}
}
