//go:build ignore

// This program writes orders.jsonl, always the same: 300 lines with 287 orders, of which one has a card that is
// declined, one a card that fails twice and one a card whose payment is never confirmed, with 12 duplicates, and with one
// line that was cut off in the middle.
package main

import (
	"bytes"
	"encoding/json"
	"log"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
)

type item struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
	Cents    int64  `json:"cents"`
}

type order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Card     string `json:"card"`
	Items    []item `json:"items"`
}

func main() {
	random := rand.New(rand.NewPCG(2, 2))
	names := strings.Fields("ada alan barbara dennis donald edsger frances grace guido hedy ken linus margaret radia rob")
	goods := []item{
		{"apron", 0, 2450}, {"bowl", 0, 790}, {"cup", 0, 450}, {"fork", 0, 320}, {"jug", 0, 1890},
		{"knife", 0, 380}, {"plate", 0, 650}, {"spoon", 0, 310}, {"teapot", 0, 3400}, {"tray", 0, 1275},
	}
	const first, all = 1001, 288
	var lines [][]byte
	for n := range all {
		o := order{
			ID:       "o-" + strconv.Itoa(first+n),
			Customer: names[random.IntN(len(names))] + "@example.com",
			Card:     "card-" + strconv.Itoa(1000+random.IntN(9000)),
		}
		switch n {
		case 9:
			o.Card = "card-silent"
		case 41:
			o.Card = "card-declined"
		case 76:
			o.Card = "card-flaky"
		}
		for _, g := range random.Perm(len(goods))[:1+random.IntN(4)] {
			i := goods[g]
			i.Quantity = 1 + random.IntN(6)
			o.Items = append(o.Items, i)
		}
		line, err := json.Marshal(o)
		if err != nil {
			log.Fatal(err)
		}
		if n == 149 {
			line = line[:len(line)/2]
		}
		lines = append(lines, line)
		if n%24 == 20 { // soon after the first, or long after it
			lines = append(lines, lines[len(lines)-1-random.IntN(len(lines))])
		}
	}
	if err := os.WriteFile("orders.jsonl", append(bytes.Join(lines, []byte("\n")), '\n'), 0o644); err != nil {
		log.Fatal(err)
	}
}
