package chunkstore_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/cache"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/s3"
)

// TestTargetConfigsJSON: a list of targets is read as it was written, as source.json has it.
func TestTargetConfigsJSON(t *testing.T) {
	want := chunkstore.TargetConfigs{
		&s3.Config{Region: "r", Endpoint: "http://h", Bucket: "b", DomainAddressing: true},
		&dir.Config{Path: "/srv/<store>"},
		&cache.Local{Directory: "/c", NumShards: 2, Capacity: 10},
		&cache.ReadOnly{Directory: "/r"},
	}
	const text = `[{"s3":{"region":"r","endpoint":"http://h","bucket":"b",` +
		`"domain_addressing":true}},` +
		`{"dir":{"path":"/srv/\u003cstore\u003e"}},` +
		`{"local":{"directory":"/c","num_shards":2,"capacity":10}},` +
		`{"read_only":{"directory":"/r","num_shards":0}}]`
	got, err := json.Marshal(want)
	if err != nil || string(got) != text {
		t.Errorf("got  %s, %v\nwant %s", got, err, text)
	}
	var read chunkstore.TargetConfigs
	if err := json.Unmarshal([]byte(text), &read); err != nil || !reflect.DeepEqual(read, want) {
		t.Errorf("read %+v, %v", read, err)
	}
}

func TestTargetConfigsRefused(t *testing.T) {
	const kinds = "dir, local, read_only, s3"
	for text, want := range map[string]string{
		`[{}]`:                       "targets[0]: want exactly one of " + kinds + ", got 0",
		`[{"dir": {}, "local": {}}]`: "targets[0]: want exactly one of " + kinds + ", got 2",
		`[{"dir": {}}, {"ftp": {}}]`: "targets[1].ftp: unknown kind of target, want one of " +
			kinds,
		`[{"dir": null}]`: "targets[0].dir: missing",
	} {
		var read chunkstore.TargetConfigs
		if err := json.Unmarshal([]byte(text), &read); err == nil || err.Error() != want {
			t.Errorf("%s: error %v\nwant %s", text, err, want)
		}
	}
}
