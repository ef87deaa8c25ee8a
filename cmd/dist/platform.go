package main

import (
	"debug/elf"
	"fmt"
	"strings"
)

// platform is a processor, by the names that it has everywhere.
type platform struct {
	goarch, debian, triplet, wheel, node string
}

var platforms = map[elf.Machine]platform{
	elf.EM_X86_64:  {"amd64", "amd64", "x86_64-linux-gnu", "x86_64", "x64"},
	elf.EM_AARCH64: {"arm64", "arm64", "aarch64-linux-gnu", "aarch64", "arm64"},
}

// runsOn returns what the files run on: the processor that all are for, and the oldest glibc that
// has every symbol that they ask for.
func runsOn(files ...string) (platform, glibc, error) {
	var (
		machine elf.Machine
		needed  glibc
	)
	for i, file := range files {
		f, err := elf.Open(file)
		if err != nil {
			return platform{}, glibc{}, err
		}
		defer f.Close()
		if i > 0 && f.Machine != machine {
			return platform{}, glibc{}, fmt.Errorf("%s is for %v, %s for %v", files[0], machine,
				file, f.Machine)
		}
		machine = f.Machine
		symbols, err := f.ImportedSymbols()
		if err != nil {
			return platform{}, glibc{}, fmt.Errorf("%s: %w", file, err)
		}
		for _, s := range symbols {
			needed = needed.orNewer(s.Version)
		}
	}
	p, ok := platforms[machine]
	switch {
	case !ok:
		return platform{}, glibc{}, fmt.Errorf("no package is known for %v", machine)
	case needed == glibc{}:
		return platform{}, glibc{}, fmt.Errorf("%s asks for no glibc", strings.Join(files, ", "))
	}
	return p, needed, nil
}

// glibc is a version of the C library.
type glibc struct{ major, minor int }

// orNewer returns the later of g and a symbol's version, such as GLIBC_2.34, if it is one.
func (g glibc) orNewer(symbol string) glibc {
	var v glibc
	if n, _ := fmt.Sscanf(symbol, "GLIBC_%d.%d", &v.major, &v.minor); n != 2 {
		return g
	}
	if v.major > g.major || v.major == g.major && v.minor > g.minor {
		return v
	}
	return g
}
