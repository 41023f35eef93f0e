#!/usr/bin/perl
# LWP: one call of each kind, a line for each.
use strict;
use warnings;
use HTTP::Request;
use LWP::UserAgent;

my ($base, $hash) = @ARGV;
my $body = 'k' x 100_000;
my $agent = LWP::UserAgent->new(keep_alive => 1, timeout => 20);

sub say_it {
    my ($what, $answer, $expected) = @_;
    my $same = defined $expected ? $answer->content eq $expected : length $answer->content == 1000;
    print "$what ", ($answer->code == 200 && $same ? 'ok' : $answer->status_line), "\n";
}

say_it('get', $agent->get("$base/bytes/1000"));
say_it('post', $agent->post("$base/echo", 'Content-Type' => 'text/plain', Content => $body), $body);

my @parts = $body =~ /(.{1,30000})/gs;
my $chunked = HTTP::Request->new(POST => "$base/echo", ['Content-Type' => 'text/plain']);
$chunked->content(sub { shift(@parts) // '' });
say_it('chunked', $agent->request($chunked), $body);

my $expect = HTTP::Request->new(POST => "$base/report", ['Content-Type' => 'text/plain', 'Expect' => '100-continue'], $body);
my $report = $agent->request($expect)->content;
print 'expect ', ($report =~ /$hash/ ? 'ok' : $report), "\n";
