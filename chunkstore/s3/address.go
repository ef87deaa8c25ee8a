package s3

import (
	"errors"
	"net"
	"strings"

	"verneuil/chunkstore"
)

func init() { chunkstore.RegisterScheme("s3", parseURI) }

const uriForm = "s3://BUCKET.REGION[.ENDPOINT]/KEY"

// parseURI parses s3://BUCKET.REGION[.ENDPOINT][/KEY]. Of a target, KEY is the prefix; its bucket
// holds both kinds of object, or is the manifests' alone.
func parseURI(uri string) (chunkstore.Address, error) {
	_, rest, _ := strings.Cut(uri, "://")
	host, key, _ := strings.Cut(rest, "/")
	if strings.Contains(host, "@") {
		return chunkstore.Address{}, errors.New("credentials do not belong here; " +
			"they come from the AWS credential chain")
	}
	part := strings.SplitN(host, ".", 3)
	if len(part) < 2 || part[0] == "" || part[1] == "" {
		return chunkstore.Address{}, errors.New("want " + uriForm)
	}
	store := Config{Region: part[1], DomainAddressing: true}
	if len(part) == 3 {
		store.Endpoint, store.DomainAddressing = endpointOf(part[2])
	}
	both, alone := store, store
	both.Bucket, both.Prefix = part[0], key
	alone.ManifestBucket, alone.Prefix = part[0], key
	alone.ChunkBucket = part[0] + "-chunks" // of which nothing is asked
	return chunkstore.Address{
		Form: uriForm,
		Key:  key,
		Open: func(o chunkstore.Options) (chunkstore.Bucket, error) {
			return NewBucket(store, part[0], o)
		},
		Targets: []chunkstore.TargetConfig{&both, &alone},
	}, nil
}

// endpointOf returns the URL of the endpoint at host, and whether buckets are its subdomains.
// Private servers, by number or on this machine, speak http and have no subdomains.
func endpointOf(host string) (endpoint string, domain bool) {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if name == "localhost" || net.ParseIP(name) != nil {
		return "http://" + host, false
	}
	return "https://" + host, true
}
