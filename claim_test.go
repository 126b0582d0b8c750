package flocklock

// What happens when an old gateway writes its record between our look and our
// step. From outside that moment cannot be met on purpose, so these tests are
// inside.

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

const stalePath = "s-0123456789abcdef" + recordSuffix

// meanwhile judges a stale record, lets an old gateway put its own there, and
// then takes our step. It returns the directory.
func meanwhile(t *testing.T, step func(path string, judged *content)) (dir string) {
	t.Helper()
	dir = t.TempDir()
	path := filepath.Join(dir, stalePath)
	write := func(text string) {
		aside := filepath.Join(dir, "written")
		if err := errors.Join(os.WriteFile(aside, []byte(text), 0o644), os.Rename(aside, path)); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"pid": 0}`)
	judged, err := readContent(path)
	if err != nil {
		t.Fatal(err)
	}
	write(`{"pid": 1}`)
	step(path, judged)
	if got, err := os.ReadFile(path); err != nil || string(got) != `{"pid": 1}` {
		t.Errorf("the old gateway's record is now %q, %v", got, err)
	}
	return dir
}

func TestRecordWrittenMeanwhile(t *testing.T) {
	ours := []byte(`{"pid": 2}`)
	type replacing = func(tmp, path string, info fs.FileInfo, text []byte, judged *content) (fs.FileInfo, error)
	for what, replace := range map[string]replacing{"exchange": replace, "aside": replaceAside, "live": replaceLive} {
		t.Run(what, func(t *testing.T) {
			meanwhile(t, func(path string, judged *content) {
				tmp := sidePath(path, ".tmp")
				info, err := writeNew(tmp, ours)
				if err != nil {
					t.Fatal(err)
				}
				if placed, err := replace(tmp, path, info, ours, judged); placed != nil || err != nil {
					t.Errorf("replaced: %v, %v", placed, err)
				}
				if !standsAt(tmp, info) {
					t.Error("our own file is not where the next attempt needs it")
				}
			})
		})
	}
	t.Run("remove", func(t *testing.T) {
		dir := meanwhile(t, func(path string, judged *content) {
			m, err := removeJudged(path, sidePath(path, ".old"), judged, Migrated{Action: Removed})
			if err != nil || m.Action != Kept {
				t.Errorf("%+v, %v", m, err)
			}
		})
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("left behind: %v, %v", entries, err)
		}
	})
}

// The record may also be gone by the time of our step.
func TestRecordGoneMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), stalePath)
	tmp := sidePath(path, ".tmp")
	info, err := writeNew(tmp, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	judged := &content{info: info}
	if placed, err := replace(tmp, path, info, nil, judged); placed != nil || err != nil {
		t.Error(placed, err)
	}
	if placed, err := replaceAside(tmp, path, info, nil, judged); placed != nil || err != nil {
		t.Error(placed, err)
	}
	if m, err := removeJudged(path, sidePath(path, ".old"), judged, Migrated{Action: Removed}); err != nil {
		t.Error(m, err)
	}
	if !standsAt(tmp, info) {
		t.Error("our own file is gone")
	}
}
