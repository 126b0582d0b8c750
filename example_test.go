package flocklock_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/flocklock/flocklock"
)

func Example() {
	home, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(home)
	dir := flocklock.Dir(home) // a gateway uses flocklock.DefaultDir()

	lock, err := dir.TryAcquire("telegram-bot-token", "123456:token")
	if err != nil {
		fmt.Println(err) // says who holds it, since when, and what to do
		return
	}
	defer lock.Release()

	_, err = dir.TryAcquire("telegram-bot-token", "123456:token")
	fmt.Println(errors.Is(err, flocklock.ErrHeld))
	// Output: true
}

func ExampleDir_Acquire() {
	home, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(home)
	dir := flocklock.Dir(home)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	lock, err := dir.Acquire(ctx, "telegram-bot-token", "123456:token")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(lock.Check(), lock.RecordErr())
	fmt.Println(lock.Release())
	// Output:
	// <nil> <nil>
	// <nil>
}

func ExampleAcquireScopedLock() {
	home, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(home)
	os.Setenv("HERMES_GATEWAY_LOCK_DIR", home)
	defer os.Unsetenv("HERMES_GATEWAY_LOCK_DIR")

	acquired, existing, err := flocklock.AcquireScopedLock("telegram-bot-token", "123456:token",
		map[string]any{"platform": "telegram"})
	switch {
	case err != nil:
		fmt.Println("not connected:", err)
	case !acquired:
		fmt.Println(existing.InUse("Telegram bot token"))
	default:
		fmt.Println("connected")
	}
	fmt.Println(flocklock.ReleaseAllScopedLocks())
	// Output:
	// connected
	// 1 <nil>
}
