package main

import (
	"context"
	"fmt"
	"strconv"

	"verneuil/chunkstore"
	"verneuil/replicate/upkeep"
)

// dedup is what ls --dedup finds out about a target; nil: it was not asked.
type dedup struct {
	target    *chunkstore.Target
	scales    *upkeep.Scales
	databases int
	bucket    upkeep.Amount // all objects of the bucket of chunks
}

func newDedup(t *chunkstore.Target, asked bool) *dedup {
	if !asked {
		return nil
	}
	return &dedup{target: t, scales: upkeep.NewScales(t)}
}

// weigh weighs the database whose manifest has that key.
func (d *dedup) weigh(ctx context.Context, key string) (*upkeep.Weight, error) {
	if d == nil {
		return nil, nil
	}
	w, err := d.scales.Weigh(ctx, key)
	if err != nil {
		return nil, err
	}
	d.databases++
	return &w, nil
}

// finish finds out what is in the bucket.
func (d *dedup) finish(ctx context.Context) error {
	if d == nil {
		return nil
	}
	err := d.target.Chunks.List(ctx, "", func(o chunkstore.Object) bool {
		d.bucket.Objects++
		d.bucket.Bytes += o.Bytes
		return ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("list the bucket of chunks: %w", err)
	}
	return nil
}

// print prints the sums, but for where nothing could be weighed.
func (d *dedup) print(asJSON bool) error {
	if d == nil || d.databases == 0 {
		return nil
	}
	w := d.scales.Total()
	if asJSON {
		return printJSON(struct {
			Target    string        `json:"target"`
			Databases int           `json:"databases"`
			Dedup     upkeep.Weight `json:"dedup"`
			Objects   int           `json:"bucket_objects"`
			Bytes     int64         `json:"bucket_bytes"`
		}{d.target.Name, d.databases, w, d.bucket.Objects, d.bucket.Bytes})
	}
	_, err := fmt.Printf("%s: %d databases, %d versions: alone %s, stored %s (%s); all that is in "+
		"the bucket of chunks: %d objects, %s\n", oneLine(d.target.Name), d.databases, w.Versions,
		humanBytes(w.AloneBytes), humanBytes(w.StoredBytes), saved(w), d.bucket.Objects,
		humanBytes(d.bucket.Bytes))
	return err
}

// saved is what deduplication spares.
func saved(w upkeep.Weight) string {
	if w.AloneBytes == 0 {
		return "0 % saved"
	}
	return fmt.Sprintf("%.0f %% saved",
		100*float64(w.AloneBytes-w.StoredBytes)/float64(w.AloneBytes))
}

// weightHeads are the headings of weightCells.
func weightHeads(asked bool) []string {
	if !asked {
		return nil
	}
	return []string{"WEIGHED", "ALONE", "STORED"}
}

// weightCells are what ls prints about the versions of one database.
func weightCells(asked bool, w *upkeep.Weight) []string {
	switch {
	case !asked:
		return nil
	case w == nil:
		return []string{"?", "?", "?"}
	}
	return []string{strconv.Itoa(w.Versions), humanBytes(w.AloneBytes), humanBytes(w.StoredBytes)}
}
