package sqllog

import (
	"context"
	"time"
)

// Watch is Listen for databases without notices: it asks every so often for the head of each topic, in one query for all
// of them, and calls heard for those whose head has changed; for all, where the name is empty.
func Watch(ctx context.Context, every time.Duration, heads func(context.Context) (map[string]int64, error), ready func(), heard func(string)) error {
	var last map[string]int64
	for sleep(ctx, every) {
		asking, cancel := context.WithTimeout(ctx, ioTimeout)
		now, err := heads(asking)
		cancel()
		if err != nil {
			return err
		}
		if last != nil {
			for topic, head := range now {
				switch old, known := last[topic]; {
				case known && old == head:
				case topic == "":
					ready()
				default:
					heard(topic)
				}
			}
		}
		last = now
	}
	return ctx.Err()
}
