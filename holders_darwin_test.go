package flocklock_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/flocklock/flocklock"
)

func TestParseLsof(t *testing.T) {
	for out, want := range map[string][]int{
		"":                              nil,
		"p7\nf3\n":                      {7},
		"p7\nf3\nf4\np18602\nftxt\n":    {7, 18602},
		"px\nf3\np-1\nf3\nlsof: oops\n": nil,
	} {
		if got := flocklock.ParseLsof(out); !slices.Equal(got, want) {
			t.Errorf("%v from %q, want %v", got, out, want)
		}
	}
}

// Of two processes that have the file open none is chosen, and both are told of.
func TestHoldersOfTwo(t *testing.T) {
	dir := newDir(t)
	p := spawn(t, "inherit", []string{string(dir), scope, secret, "give"})
	p.expect("held")
	p.expect("ready")
	found, err := dir.Holders(name)
	if found != nil || !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "2 processes") {
		t.Errorf("%v, %v", found, err)
	}
}
