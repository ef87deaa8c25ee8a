package storetest

import (
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/keyring"
)

// Keyed returns a Sealer with keys of its own: a test that passes with it has what it knows of
// stored bytes from the Sealer.
func Keyed() chunkstore.Sealer { return keyring.New(keyring.Generate(time.Now(), false)) }
