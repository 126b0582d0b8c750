package main

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

var writesPages = flag.Bool("write-pages", false, "write the man pages anew")

// TestPages: the man pages say what the commands' own help says.
func TestPages(t *testing.T) {
	want := make(map[string]string)
	addPages(t, want, newRoot())
	if *writesPages {
		replacePages(t, want)
		return
	}
	names, err := fs.Glob(pages, "man/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := pages.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if name = filepath.Base(name); string(text) != want[name] {
			t.Errorf("man/%s is out of date: go generate ./cmd/flocklock", name)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("man/%s is missing: go generate ./cmd/flocklock", name)
	}
}

func replacePages(t *testing.T, texts map[string]string) {
	t.Helper()
	if err := os.RemoveAll("man"); err != nil {
		t.Fatal(err)
	}
	for name, text := range texts {
		if err := os.MkdirAll("man", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join("man", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// addPages adds the man pages of a command and of those below it, but for the
// hidden ones.
func addPages(t *testing.T, texts map[string]string, cmd *cobra.Command) {
	t.Helper()
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	texts[name+".1"] = page(t, cmd, strings.ToUpper(name))
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && !sub.IsAdditionalHelpTopicCommand() {
			addPages(t, texts, sub)
		}
	}
}

// page has no date: it would be today's, and no two runs would make the same.
func page(t *testing.T, cmd *cobra.Command, title string) string {
	t.Helper()
	cmd.DisableAutoGenTag = true
	var b bytes.Buffer
	header := &doc.GenManHeader{Title: title, Section: "1", Date: &time.Time{}, Source: "flocklock", Manual: "flocklock"}
	if err := doc.GenMan(cmd, header, &b); err != nil {
		t.Fatal(err)
	}
	dated := `"` + time.Time{}.Format("Jan 2006") + `"`
	if strings.Count(b.String(), dated) != 1 {
		t.Fatalf("no date in %.100s", b.String())
	}
	return strings.Replace(b.String(), dated, `""`, 1)
}
