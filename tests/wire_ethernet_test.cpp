#include "efnet/wire/ethernet.h"

#include <gtest/gtest.h>

#include "tests/support/wire_bytes.h"

using namespace efnet;
using wire_test::Bytes;
using wire_test::hex;
using wire_test::random_bytes;

namespace {

const MacAddress dst(0x02, 0, 0, 0, 0, 2);
const MacAddress src(0x02, 0, 0, 0, 0, 1);

Bytes frame(std::span<const VlanTag> tags, std::size_t payload = 46) {
  const EthernetHeader header{.dst = dst, .src = src, .type = EtherType::ipv4, .tags = tags};
  Bytes bytes(header.size());
  EXPECT_EQ(header.emit(bytes), header.size());
  const Bytes rest = random_bytes(payload);
  bytes.insert(bytes.end(), rest.begin(), rest.end());
  return bytes;
}

TEST(Ethernet, EmitsTheBytesOfTheStandard) {
  const VlanTag tags[] = {VlanTag::make(100, 5, EtherType::qinq), VlanTag::make(200)};
  EXPECT_EQ(frame(tags, 0), hex("020000000002 020000000001 88a8 a064 8100 00c8 0800"));
  EXPECT_EQ(frame({}, 0), hex("020000000002 020000000001 0800"));
}

TEST(Ethernet, ReadsWhatItEmits) {
  const VlanTag tags[] = {VlanTag::make(100, 5, EtherType::qinq), VlanTag::make(200)};
  for (std::size_t count = 0; count <= 2; ++count) {
    const Bytes bytes = frame(std::span(tags).first(count));
    const auto view = EthernetView::parse(bytes);
    ASSERT_TRUE(view);
    EXPECT_EQ(view->dst(), dst);
    EXPECT_EQ(view->src(), src);
    EXPECT_EQ(view->type(), EtherType::ipv4);
    EXPECT_EQ(view->tag_count(), count);
    EXPECT_EQ(view->header_length(), 14 + 4 * count);
    EXPECT_EQ(view->payload().size(), 46u);
    for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(view->tag(i), tags[i]);
    EXPECT_FALSE(view->tag(count));
  }
}

TEST(Ethernet, RefusesEveryTruncationOfItsHeader) {
  const VlanTag tags[] = {VlanTag::make(100, 5, EtherType::qinq), VlanTag::make(200)};
  wire_test::for_every_truncation(frame(tags, 0), [](auto cut) { EXPECT_FALSE(EthernetView::parse(cut)); });
  wire_test::for_every_truncation(frame({}, 0), [](auto cut) { EXPECT_FALSE(EthernetView::parse(cut)); });
}

TEST(Ethernet, RefusesMoreTagsThanItsLimit) {
  const std::vector<VlanTag> most(EthernetView::max_tags, VlanTag::make(1));
  EXPECT_TRUE(EthernetView::parse(frame(most)));
  const std::vector<VlanTag> more(EthernetView::max_tags + 1, VlanTag::make(1));
  EXPECT_FALSE(EthernetView::parse(frame(more)));
}

TEST(Ethernet, EmitRefusesShortRoomAndLeavesItAlone) {
  const VlanTag tags[] = {VlanTag::make(100)};
  const EthernetHeader header{.dst = dst, .src = src, .tags = tags};
  wire_test::for_every_truncation(Bytes(header.size()), [&](auto cut) {
    EXPECT_EQ(header.emit(cut), 0u);
    for (const std::byte byte : cut) EXPECT_EQ(byte, std::byte{0});
  });
}

TEST(Ethernet, TellsLengthsFromTypes) {
  EXPECT_TRUE(EthernetView::parse(hex("0180c2000000 020000000001 0026"))->has_length());
  EXPECT_FALSE(EthernetView::parse(hex("0180c2000000 020000000001 0600"))->has_length());
}

TEST(Ethernet, SettersWriteTheirFieldOnly) {
  const VlanTag tags[] = {VlanTag::make(100, 5, EtherType::qinq), VlanTag::make(200)};
  Bytes bytes = frame(tags);
  const auto view = EthernetMut::parse(bytes);
  view->set_dst(src);
  view->set_src(dst);
  view->set_type(EtherType::ipv6);
  EXPECT_TRUE(view->set_tci(1, VlanTag::make(300, 7).tci));
  EXPECT_FALSE(view->set_tci(2, 0));
  const VlanTag changed[] = {tags[0], VlanTag::make(300, 7)};
  Bytes expected(22);
  EthernetHeader{.dst = src, .src = dst, .type = EtherType::ipv6, .tags = changed}.emit(expected);
  const Bytes rest = random_bytes(46);
  expected.insert(expected.end(), rest.begin(), rest.end());
  EXPECT_EQ(bytes, expected);
}

TEST(Ethernet, ViewStaysInsideWhenTheBytesChangeUnderIt) {
  const VlanTag tags[] = {VlanTag::make(100)};
  Bytes bytes = frame(tags, 0);
  const auto view = EthernetMut::parse(bytes);
  view->set_type(EtherType::vlan);
  EXPECT_EQ(view->header_length(), bytes.size());
  EXPECT_TRUE(view->payload().empty());
  EXPECT_EQ(view->tag_count(), 1u);
}

TEST(Vlan, PartsOfATag) {
  const VlanTag tag{EtherType::vlan, 0xB064};
  EXPECT_EQ(tag.priority(), 5);
  EXPECT_TRUE(tag.drop_eligible());
  EXPECT_EQ(tag.id(), 100);
  EXPECT_TRUE(VlanTag::make(0, 3).is_priority_only());
  EXPECT_TRUE(VlanTag::make(4095).is_reserved());
  EXPECT_EQ(VlanTag::make(0x1FFF, 0xFF).tci, 0xEFFF);
}

TEST(Vlan, InsertInFrontKeepsTpidAndPayload) {
  for (const EtherType tpid : {EtherType::vlan, EtherType::qinq}) {
    const Bytes before = frame({});
    Bytes room(4);
    room.insert(room.end(), before.begin(), before.end());
    const VlanTag tags[] = {VlanTag::make(100, 5, tpid)};
    EXPECT_TRUE(insert_vlan(room, tags[0]));
    EXPECT_EQ(room, frame(tags));
  }
}

TEST(Vlan, InsertWithRoomBehindGivesTheSameFrame) {
  const VlanTag tags[] = {VlanTag::make(100, 5, EtherType::qinq)};
  Bytes room = frame({});
  room.resize(room.size() + 4);
  EXPECT_TRUE(insert_vlan_moving_payload(room, tags[0]));
  EXPECT_EQ(room, frame(tags));
}

TEST(Vlan, StripUndoesInsertTagByTag) {
  const VlanTag tags[] = {VlanTag::make(100, 5, EtherType::qinq), VlanTag::make(200, 1)};
  Bytes bytes = frame(tags);
  std::span<std::byte> left(bytes);
  EXPECT_EQ(strip_vlan(left), tags[0]);
  left = left.subspan(4);
  EXPECT_EQ(Bytes(left.begin(), left.end()), frame(std::span(tags).last(1)));
  EXPECT_EQ(strip_vlan(left), tags[1]);
  left = left.subspan(4);
  EXPECT_EQ(Bytes(left.begin(), left.end()), frame({}));
  EXPECT_FALSE(strip_vlan(left));
  EXPECT_EQ(Bytes(left.begin(), left.end()), frame({}));
}

TEST(Vlan, ShortFramesAreLeftAlone) {
  const VlanTag tags[] = {VlanTag::make(100)};
  wire_test::for_every_truncation(frame(tags, 0), [](auto cut) {
    const Bytes before(cut.begin(), cut.end());
    EXPECT_FALSE(strip_vlan(cut));
    EXPECT_FALSE(insert_vlan(cut, VlanTag::make(1)));
    EXPECT_FALSE(insert_vlan_moving_payload(cut, VlanTag::make(1)));
    EXPECT_EQ(Bytes(cut.begin(), cut.end()), before);
  });
}

}  // namespace
