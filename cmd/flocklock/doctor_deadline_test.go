package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/flocklock/flocklock"
)

// TestDoctorDeadline: what hangs is left to itself when the time is up, what was
// to come after it is not begun, and what others found is told.
func TestDoctorDeadline(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	found, forever := make(chan struct{}), make(chan struct{})
	defer close(forever)
	d := &doctor{place: place{dir: flocklock.Dir(t.TempDir())}}
	findings := d.checkAll(ctx, [][]check{
		{
			{"what hangs", func(context.Context) []finding { <-found; cancel(); <-forever; return nil }},
			{"what comes after it", func(context.Context) []finding { t.Error("it was begun"); return nil }},
		},
		{
			{"what answers", func(context.Context) []finding { return []finding{{ID: "answer"}} }},
			{"the signal", func(context.Context) []finding { close(found); <-forever; return nil }},
		},
	})
	var ids []string
	for _, f := range findings {
		ids = append(ids, f.ID)
		if f.ID == "unfinished" && !f.left() {
			t.Errorf("no problem: %+v", f)
		}
	}
	if want := []string{"unfinished", "unfinished", "answer", "unfinished"}; !slices.Equal(ids, want) {
		t.Errorf("found %q, want %q", ids, want)
	}
}

// TestRow29DoctorNotAsked: where there is no time to ask who holds, it says so.
func TestRow29DoctorNotAsked(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := &doctor{place: place{dir: flocklock.Dir(t.TempDir())}}
	findings := d.inherited(ctx, make([]flocklock.Status, 3))
	if len(findings) != 1 || findings[0].ID != "holders-not-asked" || findings[0].left() || !strings.Contains(findings[0].What, "3 of the locks") {
		t.Errorf("findings: %+v", findings)
	}
}

// TestDoctorIDs: the README names every finding.
func TestDoctorIDs(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("doctor*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, source := range slices.DeleteFunc(sources, func(name string) bool { return strings.HasSuffix(name, "_test.go") }) {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range regexp.MustCompile(`\bID(?::|.*? =) "([a-z-]+)"`).FindAllSubmatch(text, -1) {
			found++
			if !strings.Contains(string(readme), "`"+string(id[1])+"`") {
				t.Errorf("README.md does not name %s", id[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d findings were looked for", found)
	}
}
